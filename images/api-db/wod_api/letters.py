"""Letters to participants: HTML and text from one template each, with the site's branding.

A template (mails/<name>.txt.j2 and .html.j2) escapes by itself whatever a person has typed.
"""

from email.message import EmailMessage
from email.policy import EmailPolicy
from typing import Any

import jinja2

from wod_api.settings import Settings
from wodctl.model import brand

SUBJECTS = {
    "welcome": "{BRANDINGWOD} {sessionType}",
    "credentials": "{BRANDINGWOD} {sessionType} credentials",
    "expiring": "Your {BRANDINGWOD} {sessionType} session will end in one hour",
    "expired": "Thanks for participating in the {BRANDINGWOD} {sessionType}!",
    "error": "{BRANDINGWOD} Workshop-on-Demand {title} Deployment Issue.",
    "badge": "Way to go! You just earned the {BRANDINGWOD} {badge} badge!",
    "feedback": "{BRANDINGWOD} Feedback",
}

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("wod_api", "mails"),
    autoescape=jinja2.select_autoescape(["html.j2"]),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def subject(template: str, facts: dict[str, Any], settings: Settings) -> str:
    """The letter's subject, on one line."""
    values = settings.values | {key: value or "" for key, value in facts.items()}
    return " ".join(SUBJECTS[template].format_map(values).split())


def compose(
    template: str, facts: dict[str, Any], password: str | None, settings: Settings, *, policy: EmailPolicy
) -> EmailMessage:
    """The letter without its envelope: text, and the same as HTML."""
    accent, on_accent = brand.on_white(settings.BRANDINGCOLOR)
    values = {
        "accent": accent,
        "on_accent": on_accent,
        "facts": facts,
        "password": password,
        "site": settings,
        "frontend": settings.frontend,
        "picture": _picture(facts.get("picture") or facts.get("badgeImg"), settings),
        "feedback": settings.WODFEEDBACKURL if settings.WODFEEDBACKURL not in ("", "None") else None,
        "replay": facts.get("replayLink") if str(facts.get("replayLink") or "").startswith("http") else None,
    }
    message = EmailMessage(policy=policy)
    message.set_content(
        _templates.get_template(f"{template}.txt.j2").render(values).strip() + "\n", charset="utf-8"
    )
    message.add_alternative(
        _templates.get_template(f"{template}.html.j2").render(values), subtype="html", charset="utf-8"
    )
    return message


def _picture(name: str | None, settings: Settings) -> str | None:
    """Where a badge's picture is: an address as it stands, a name at the portal."""
    if not name:
        return None
    return name if "://" in name else f"{settings.frontend}/img/badges/{name}"
