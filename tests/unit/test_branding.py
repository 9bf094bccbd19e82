"""The site's names, logo and colours: what may be said, and that it can be read on every page."""

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from wodctl.adapters.configuration import load
from wodctl.adapters.state import LARGEST_LOGO, logo_of
from wodctl.errors import ConfigProblem
from wodctl.model import brand

COLORS = [
    "",
    "#0b6e6b",
    "#ff8300",
    "#ffff00",
    "#ffffff",
    "#000000",
    "#01a982",
    "#7f7f7f",
    "#FF0000",
    "#0000ff",
]


@pytest.mark.parametrize("color", COLORS)
def test_any_colour_can_be_read(color: str):
    """As text on the cards of light and dark pages, and under the words of a button."""
    sheet = brand.style(color)
    for part, card in zip(sheet.split("@media"), ("#ffffff", "#1b232a"), strict=True):
        words = dict(re.findall(r"(--[a-z-]+):(#[0-9a-f]{6})", part))
        accent, text = words["--accent"], words["--on-accent"]
        assert brand.contrast(accent, card) >= 4.3, part
        assert brand.contrast(accent, text) >= 4.3, part
    assert brand.icon(color).startswith("data:image/svg+xml;base64,")


def test_a_colour_that_can_be_read_stays_as_it_is():
    """The site's own is what its visitors see."""
    assert brand.style("#5b2c83").startswith(":root{--accent:#5b2c83;")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BRANDING", ""),
        ("BRANDING", "two\nlines"),
        ("BRANDING", "x" * 81),
        ("BRANDINGWOD", "bell\x07"),
        ("BRANDINGURL", "javascript:alert(1)"),
        ("BRANDINGURL", "//elsewhere.example"),
        ("BRANDINGURL", "https://x.example/' onmouseover='alert(1)"),
        ("BRANDINGLOGOURL", "data:text/html,<script>alert(1)</script>"),
        ("BRANDINGLOGOURL", "https://x.example; script-src *"),
        ("BRANDINGLOGOURL", "https://x.example/a.png; script-src *"),
        ("BRANDINGLOGOURL", "https://me@x.example/a.png"),
        ("BRANDINGLOGOURL", 'https://x.example/"><script>'),
        ("BRANDINGCOLOR", "red"),
        ("BRANDINGCOLOR", "#12345"),
        ("BRANDINGCOLOR", "#123456;}body{display:none"),
        ("BRANDINGCOLOR", "#123456\n"),
        ("BRANDINGCOLOR", "url(https://x.example)"),
    ],
)
def test_what_would_do_harm_is_refused_with_its_name(tmp_path: Path, name: str, value: str):
    """Before anything is started; the message says what is expected."""
    with pytest.raises(ConfigProblem, match=f"{name} is .*; expected "):
        load(ROOT, tmp_path, {name: value}, {})


def test_what_real_sites_say_is_accepted(tmp_path: Path):
    """Quotes and accents in names (pages escape them), addresses with ports and queries."""
    said = {
        "BRANDING": 'L\'atelier <b>"démo"</b>',
        "BRANDINGURL": "https://wod.example.org:8443/workshops?lang=fr&x=%20#top",
        "BRANDINGLOGOURL": "http://img.example.org/a/logo%20new.png?v=2",
        "BRANDINGCOLOR": "#FF8300",
    }
    settings = load(ROOT, tmp_path, said, {})[0]
    assert {name: getattr(settings, name) for name in said} == said


def test_the_logo_comes_from_the_private_repository(tmp_path: Path):
    """A picture of a kind that browsers show inertly, small, and from nowhere else."""
    folder = tmp_path / "private/branding"
    folder.mkdir(parents=True)
    private = str(folder.parent)
    assert logo_of("") == logo_of(private) == ""
    (folder / "logo.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    assert logo_of(private).startswith("data:image/png;base64,iVBOR")
    svg = folder / "logo.svg"
    svg.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    assert logo_of(private).startswith("data:image/svg+xml;base64,")
    secret = tmp_path / "secret.svg"
    secret.write_text("<svg>a secret of the host</svg>")
    for harm in (b"<html>", b"<svg>" + b"x" * LARGEST_LOGO):
        svg.write_bytes(harm)
        with pytest.raises(ConfigProblem, match=r"logo\.svg is not a picture"):
            logo_of(private)
    svg.unlink()
    svg.symlink_to(secret)
    with pytest.raises(ConfigProblem, match=r"logo\.svg is not a picture"):
        logo_of(private)
