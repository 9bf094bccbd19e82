"""`wodctl mail`: what the registration API has sent, or keeps where the site sends no mails."""

import email
import email.policy
import json
from email.message import EmailMessage
from typing import Any

import click

from wodctl.adapters.api_db import ApiDb
from wodctl.commands.site import Site, pass_site
from wodctl.commands.table import table


@click.group()
def mail() -> None:
    """Mails of the registration API on this host: orders to backends, letters to participants."""


@mail.command("list")
@click.option("--customer", type=click.IntRange(1), help="Only those of this registration.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@pass_site
def list_(site: Site, customer: int | None, limit: int, as_json: bool) -> None:
    """List mails, newest first: waiting, sent, kept (without WODSMTPHOST), failed or withdrawn.

    \b
    Example:
      wodctl mail list
    """
    found = ApiDb(site.engine).ask("mails", customer=customer, limit=limit)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    heads = ("ID", "STATE", "CREATED", "TO", "SUBJECT", "PROBLEM")
    rows = [
        (str(one["id"]), one["state"], one["created"][:19].replace("T", " "), one["recipient"], one["subject"],
         one["problem"] or "")
        for one in found
    ]  # fmt: skip
    click.echo(table(heads, rows))


@mail.command()
@click.argument("number", metavar="ID", type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True, help="Print the mail as JSON, with its whole content.")
@pass_site
def show(site: Site, number: int, as_json: bool) -> None:
    """Show mail ID; a letter that was kept with its text.

    \b
    Example:
      wodctl mail show 12
    """
    found = ApiDb(site.engine).ask("mail", id=number)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    names = (
        "recipient",
        "subject",
        "event",
        "state",
        "attempts",
        "problem",
        "message_id",
        "created",
        "finished",
    )
    click.echo(table((), [(name, str(found[name])) for name in names if found[name] is not None]))
    click.echo(f"\n{_text(found)}")


def _text(found: dict[str, Any]) -> str:
    if not found["content"]:
        return "Its content is not kept: it was sent, or is no letter."
    message = email.message_from_string(found["content"], policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    body = message.get_body(("plain",))
    return str(body.get_content()) if body else found["content"]
