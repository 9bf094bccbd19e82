"""`wodctl watchdog`: what looks after the seats by itself."""

import json
import time
from datetime import datetime, timedelta
from typing import Any

import click

from wodctl.adapters.database import Round, connect_as_operator
from wodctl.commands.site import Site, pass_site
from wodctl.commands.table import table
from wodctl.errors import StackProblem, UsageProblem
from wodctl.model.watchdogs import WATCHDOGS, Watchdog

LONGEST_ROUND = 120
"""Seconds that a round is waited for."""


@click.group()
def watchdog() -> None:
    """See what looks after the seats by itself: runaways, old kernels, idle servers, disk, orphans, old records."""


@watchdog.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@pass_site
def list_(site: Site, as_json: bool) -> None:
    """List the watchdogs: the setting that each obeys, its last round, what it found, when the next is due.

    What they did is among the actions (`wodctl action list`), with the source `watchdog`.

    \b
    Example:
      wodctl watchdog list
    """
    rounds = connect_as_operator(site.state).rounds()
    documents = [_document(site, dog, rounds.get(dog.name)) for dog in WATCHDOGS]
    if as_json:
        click.echo(json.dumps(documents, indent=1))
        return
    rows = [
        (
            document["name"],
            document["setting"] or "off",
            _short(document["last"]),
            _short(document["next"]),
            document["problem"] or "; ".join(document["found"]) or ("nothing" if document["last"] else "-"),
        )
        for document in documents
    ]
    click.echo(table(("WATCHDOG", "SETTING", "LAST", "NEXT", "FOUND"), rows))


@watchdog.command()
@click.argument("name", type=click.Choice([dog.name for dog in WATCHDOGS]))
@pass_site
def run(site: Site, name: str) -> None:
    """Let a watchdog make its round now, and print what it found.

    \b
    Example:
      wodctl watchdog run orphans
    """
    dog = next(dog for dog in WATCHDOGS if dog.name == name)
    if not dog.setting(site.settings):
        raise UsageProblem(f"The watchdog {name} is off.", hint="conf/defaults.yml names its setting.")
    database = connect_as_operator(site.state)
    former = database.rounds().get(name)
    database.order_round(name)
    end = time.monotonic() + LONGEST_ROUND
    while time.monotonic() < end:
        now = database.rounds().get(name)
        if now and (former is None or now.ran > former.ran):
            if now.problem:
                raise StackProblem(f"The round of {name} was not made: {now.problem}")
            click.echo("\n".join(now.found) or "Nothing was found.")
            return
        time.sleep(0.2)
    raise StackProblem(
        f"{name} has not made a round within {LONGEST_ROUND} s.", hint="`wodctl logs worker` may say why."
    )


def _document(site: Site, dog: Watchdog, last: Round | None) -> dict[str, Any]:
    setting = dog.setting(site.settings)
    following = last.ran + timedelta(seconds=dog.every) if setting and last else None
    return {
        "name": dog.name,
        "on": bool(setting),
        "setting": setting,
        "looks_for": dog.looks_for,
        "last": last.ran.isoformat() if last else None,
        "seconds": round(last.seconds, 3) if last else None,
        "found": last.found if last else [],
        "problem": last.problem if last else None,
        "next": following.isoformat() if following else None,
    }


def _short(moment: str | None) -> str:
    return datetime.fromisoformat(moment).astimezone().strftime("%m-%d %H:%M:%S") if moment else "-"
