"""Letters to participants: every one in text and HTML, what people type escaped, nothing in a header but one line."""

import email
import email.policy
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "images/api-db"))

from wod_api import letters  # noqa: E402
from wod_api.settings import Settings  # noqa: E402

from wodctl.model import brand  # noqa: E402

SITE = Settings({
    "BRANDINGCOLOR": "#ffff00", "BRANDINGWOD": "Lab & Co", "BRANDINGURL": "https://lab.example.net", "BRANDINGLOGOURL": "https://lab.example.net/l.svg",
    "BRANDINGSLACK": "Ask in #labs", "BRANDINGX": "@labs", "WODSENDER": "labs@example.net", "WODFEEDBACKURL": "https://q",
    "WODFEEXTPROTO": "https", "WODFEEXTFQDN": "portal.example.net", "WODFEEXTPORT": 443,
})  # fmt: skip
FACTS: dict[str, Any] = {
    "name": "<img src=x onerror=alert(1)>", "title": "Rust\r\nBcc: all@example.net", "hours": "2 hours",
    "sessionType": "Workshops-on-Demand", "replayLink": "javascript:alert(1)", "replayId": 31, "badgeImg": "rust.png",
    "userName": "student3", "seatUrl": "http://b:8000/user/student3/lab?", "loginUrl": "http://b:8000/hub/login",
    "badge": "Hero", "badgeId": 3, "picture": None, "finished": 7, "email": "a@example.net", "message": "<b>Fine</b>",
}  # fmt: skip


@pytest.mark.parametrize("template", letters.SUBJECTS)
def test_every_letter_is_whole_and_harmless(template: str) -> None:
    """Text and HTML, the site's name, no markup and no line of a header that somebody has typed."""
    subject = letters.subject(template, FACTS, SITE)
    assert "\n" not in subject and "\r" not in subject
    message = letters.compose(template, FACTS, "Pa55word", SITE, policy=email.policy.SMTP)
    message["Subject"] = subject
    read = email.message_from_bytes(message.as_bytes(), policy=email.policy.default)
    assert read["Bcc"] is None
    text, html = (read.get_body((kind,)).get_content() for kind in ("plain", "html"))  # type: ignore[attr-defined]
    assert "<img src=x" not in html and "<b>Fine" not in html and "javascript:" not in html + text
    assert "Lab &amp; Co" in html
    assert ("Pa55word" in text) == (template == "credentials") == ("Pa55word" in html)


def test_letters_are_in_the_site_s_colour_as_it_can_be_read() -> None:
    """Yellow becomes darker on white; nobody gets a letter in our colour instead of his."""
    html = letters.compose("credentials", FACTS, "Pa55word", SITE, policy=email.policy.SMTP).get_body(
        ("html",)
    )
    assert f"background:{brand.on_white('#ffff00')[0]}" in html.get_content()  # type: ignore[union-attr]
    assert brand.contrast(brand.on_white("#ffff00")[0], "#ffffff") >= 4.5


def test_badges_are_shared_as_existing_pages_expect() -> None:
    """A badge's picture is at the portal; an address stays as it is."""
    expired = letters.compose("expired", FACTS, None, SITE, policy=email.policy.SMTP).as_string()
    assert "https://portal.example.net/img/badges/rust.png" in expired
    badge = letters.compose("badge", FACTS, None, SITE, policy=email.policy.SMTP).as_string()
    assert "https://portal.example.net/workshops/2/special-badge" in badge
