"""The colours of a site's pages and letters, made of its own: legible on white and on black, whatever it is."""

import base64
import hashlib

OURS = "#0b6e6b"
"""The colour of a site that has none of its own."""

LEGIBLE, LEGIBLE_AT_NIGHT = 4.5, 7.0
"""Contrast that text needs on white, https://www.w3.org/TR/WCAG22/#contrast-minimum, and has on dark pages."""

_LIGHT, _DARK = "#ffffff", "#182028"


def style(color: str) -> str:
    """The style sheet with the colours of a site whose own is `color`, `#rrggbb`; empty: ours."""
    color = color or OURS
    light = _legible(color, _LIGHT, "#000000", LEGIBLE)
    dark = _legible(color, _DARK, "#ffffff", LEGIBLE_AT_NIGHT)
    on_light, on_dark = _names(light, "#000000"), _names(dark, "#ffffff")
    return f":root{{{on_light}}}@media (prefers-color-scheme:dark){{:root{{{on_dark}}}}}"


def on_white(color: str) -> tuple[str, str]:
    """The site's colour as it can be read on white, and what can be read on it."""
    accent = _legible(color or OURS, _LIGHT, "#000000", LEGIBLE)
    return accent, _readable_on(accent)


def icon(color: str) -> str:
    """Our mark in the site's colour, as an address that holds the picture."""
    accent, on_accent = on_white(color)
    picture = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
        f'<rect width="32" height="32" rx="8" fill="{accent}"/>'
        '<path d="M8 11l5 5-5 5M16 22h8" fill="none" stroke-width="3" stroke-linecap="round" '
        f'stroke="{on_accent}"/></svg>'
    )
    return f"data:image/svg+xml;base64,{base64.b64encode(picture.encode()).decode()}"


def source(text: str) -> str:
    """How a Content-Security-Policy names the inline style or script `text`."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def contrast(one: str, other: str) -> float:
    """From 1, none, to 21, black on white."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _names(accent: str, away: str) -> str:
    strong = _mixed(accent, away, 0.2)
    return f"--accent:{accent};--accent-strong:{strong};--on-accent:{_readable_on(accent)}"


def _readable_on(ground: str) -> str:
    return max(("#ffffff", "#0b1416"), key=lambda text: contrast(text, ground))


def _legible(color: str, ground: str, away: str, least: float) -> str:
    """The colour, moved towards `away` until it has that contrast with the ground."""
    return next(
        shade
        for shade in (_mixed(color, away, step / 20) for step in range(21))
        if contrast(shade, ground) >= least
    )


def _mixed(one: str, other: str, share: float) -> str:
    pairs = zip(_parts(one), _parts(other), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def _luminance(color: str) -> float:
    """Relative luminance, https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (value / 255 for value in _parts(color))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _parts(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color.removeprefix("#")))
