"""Mail to the operator, by the site's relay."""

import smtplib
import socket
import ssl
from contextlib import closing
from email.message import EmailMessage
from pathlib import Path

from wodctl.errors import ConfigProblem, Unavailable
from wodctl.model.settings import Settings

PASSWORD = "secrets/api-db/smtp-password"  # noqa: S105 - a name
"""Below the state directory: the relay's, which the registration API's scheduler uses too."""

_SECONDS = 30


def tell_operator(settings: Settings, state: Path, subject: str, text: str) -> None:
    """Hand a mail to WODMONITOR over to the relay; returns once it has taken it.

    Raises ConfigProblem where there is no relay, Unavailable where it does not take the mail.
    """
    if not settings.WODSMTPHOST:
        raise ConfigProblem(
            "WODMONITOR cannot be told: no relay takes mails of this host.",
            hint="Set WODSMTPHOST, WODSMTPPORT and WODSMTPTLS.",
        )
    mail = EmailMessage()
    mail["Subject"], mail["To"] = subject, settings.WODMONITOR
    mail["From"] = f"{settings.WODUSER}@{settings.WODBEEXTFQDN}"
    mail.set_content(text)
    authority = ssl.create_default_context(cafile=settings.WODCABUNDLE or None)
    where = f"{settings.WODSMTPHOST}:{settings.WODSMTPPORT}"
    try:
        if settings.WODSMTPTLS == "tls":
            relay: smtplib.SMTP = smtplib.SMTP_SSL(
                settings.WODSMTPHOST, settings.WODSMTPPORT, timeout=_SECONDS, context=authority
            )
        else:
            relay = smtplib.SMTP(settings.WODSMTPHOST, settings.WODSMTPPORT, timeout=_SECONDS)
        with closing(relay):
            if settings.WODSMTPTLS == "starttls":
                relay.starttls(context=authority)
            if settings.WODSMTPUSER:
                relay.login(settings.WODSMTPUSER, (state / PASSWORD).read_text().strip())
            relay.send_message(mail)
    except (smtplib.SMTPException, socket.gaierror, OSError) as error:
        raise Unavailable(
            f"The relay {where} did not take the mail to {settings.WODMONITOR}: {error}.",
            hint="Nothing was noted: the next run tells again.",
        ) from None
