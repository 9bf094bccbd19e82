"""The portal's side of the mail port: sends action mails as a portal should (RFC 5321), for trials and measurements."""

import smtplib
import time
from email.message import EmailMessage

from wodctl.errors import Unavailable
from wodctl.model.settings import Settings


def send_action_mail(settings: Settings, action: str, seat: int, customer: int, workshop: str) -> float:
    """Send an action mail to this host's own port; returns the time (time.time()) at which it was acknowledged.

    Raises Unavailable if the port does not answer or refuses the mail.
    """
    mail = EmailMessage()
    mail["Subject"] = f"{action} {seat} {customer}"
    mail.set_content(workshop)
    receiver = f"{settings.WODUSER}@{settings.WODBEEXTFQDN}"
    try:
        with smtplib.SMTP(
            "127.0.0.1", settings.WODPOSTPORT, local_hostname="localhost", timeout=60
        ) as connection:
            connection.mail(settings.WODSENDER)
            connection.rcpt(receiver)
            code, answer = connection.data(mail.as_bytes())
            acknowledged = time.time()
    except (OSError, smtplib.SMTPException) as error:
        raise Unavailable(f"The mail port {settings.WODPOSTPORT} did not take the mail: {error}.",
                          hint="`wodctl status` shows the services.") from None  # fmt: skip
    if code != 250:
        raise Unavailable(f"The mail port refused the mail: {code} {answer.decode(errors='replace')}.")
    return acknowledged
