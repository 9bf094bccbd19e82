"""What a participant sees where nobody answers: a page that tries again by itself."""

from html import escape

from wodctl.model import brand

SENTENCES = {
    "seat": (
        "Your workshop does not answer",
        "Its server may have used up its memory and been stopped. It is started anew by itself; your files are safe.",
    ),
    "appliance": (
        "Nothing is served here yet",
        "The page is there as soon as a program of yours, or the machine of your workshop, answers.",
    ),
    "hub": ("One moment, please", "This site is being started. Open workshops go on meanwhile."),
}
"""By what does not answer: a title and what follows it."""

SECONDS = 3
"""Until the page tries again."""

_STYLE = (
    ":root{color-scheme:light dark;--ground:#f3f5f6;--card:#fff;--text:#17212b;--soft:#55626f}"
    "@media (prefers-color-scheme:dark){:root{--ground:#12181d;--card:#1b232a;--text:#e8edf0;--soft:#a7b3bd}}"
    "*{box-sizing:border-box}"
    "body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.25rem;background:var(--ground);"
    "color:var(--text);border-top:4px solid var(--accent);"
    'font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",sans-serif}'
    "main{max-width:29rem;padding:2.75rem 2.5rem;border-radius:14px;background:var(--card);text-align:center;"
    "box-shadow:0 12px 32px rgb(0 0 0/.12)}"
    "h1{margin:1.25rem 0 .5rem;font-size:1.6rem;line-height:1.25}p{margin:0;color:var(--soft);font-size:1.05rem}"
    ".name{margin-top:1.75rem;font-size:.9rem}"
    "i{display:block;width:3.25rem;height:3.25rem;margin:0 auto;border:4px solid "
    "color-mix(in srgb,var(--accent) 22%,transparent);border-top-color:var(--accent);border-radius:50%;"
    "animation:turn 1s linear infinite}@keyframes turn{to{transform:rotate(1turn)}}"
    "@media (prefers-reduced-motion:reduce){i{animation:none}}"
)


def page(what: str, name: str, color: str) -> str:
    """The page for one of SENTENCES, in the site's name and colour (`#rrggbb`, or empty: ours)."""
    title, sentence = SENTENCES[what]
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="robots" content="noindex"><meta http-equiv="refresh" content="{SECONDS}">'
        f"<title>{title} · {escape(name)}</title><style>{_whole_style(color)}</style></head>"
        f"<body><main><i></i><h1>{title}</h1><p>{sentence}</p>"
        f'<p class="name">{escape(name)}</p></main></body></html>\n'
    )


def headers(color: str) -> dict[str, str]:
    """What the page may do: show itself, and nothing else."""
    return {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": f"default-src 'none'; style-src {brand.source(_whole_style(color))}",
        "Referrer-Policy": "no-referrer",
    }


def _whole_style(color: str) -> str:
    return brand.style(color) + _STYLE
