"""`wodctl action`: order what mails order, and see what became of it."""

import json
import re
import time
from collections.abc import Sequence
from datetime import datetime
from textwrap import indent
from typing import Any

import click

from wodctl.adapters.database import Action, Database, connect_as_operator
from wodctl.commands.site import Site, pass_site
from wodctl.commands.table import table
from wodctl.errors import ActionFailed, Unavailable, UsageProblem
from wodctl.model.order import ACTIONS, Order, check_order

ENDED = ("done", "failed", "rejected")
_SEATS = re.compile(r"([1-9][0-9]{0,5})(?:,([1-9][0-9]{0,5}))?")


@click.group()
def action() -> None:
    """Order what happens to seats, and see what became of it."""


@action.command()
@click.argument("kind", metavar="ACTION", type=click.Choice(ACTIONS))
@click.argument("seats", metavar="SEAT")
@click.argument("customer", type=click.IntRange(min=0), default=0)
@click.option("-w", "--workshop", metavar="NAME", help="WKSHP-NAME, or CHLG-NAME for the challenge of it.")
@click.option("--wait", is_flag=True, help="Wait for the end; exit 0 if it is done, 6 if it failed.")
@click.option("--timeout", metavar="S", type=click.IntRange(min=0), default=300, show_default=True,
              help="Seconds that --wait waits.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the action as JSON.")
@pass_site
def submit(
    site: Site,
    kind: str,
    seats: str,
    customer: int,
    workshop: str | None,
    wait: bool,
    timeout: int,
    as_json: bool,
) -> None:
    """Queue an action on SEAT for CUSTOMER, as a mail does. CUSTOMER 0, the default, is nobody: by hand.

    \b
    Examples:
      wodctl action submit CREATE 3 17 -w WKSHP-Welcome101 --wait
      wodctl action submit CLEANUP 3 17 -w WKSHP-Welcome101
      wodctl action submit RESET 1,20 -w WKSHP-Welcome101
      wodctl action submit PURGE 3
    """
    order = _order(site, kind, seats, customer, workshop)
    database = connect_as_operator(site.state)
    number = database.submit_action(
        order.action, order.first, order.last, order.customer, order.workshop, "cli"
    )
    found = ended(database, number, timeout) if wait else _known(database, number)
    if as_json:
        click.echo(json.dumps(document(found), indent=1))
    else:
        click.echo(sentence(found))
    if wait and found.state != "done":
        raise ActionFailed(
            f"Action {number} {became(found)}: {found.reason}",
            hint=f"`wodctl action show {number}` tells more.",
        )


@action.command("list")
@click.option("--rejected", is_flag=True, help="Only those that were refused, with the reason.")
@click.option("--limit", metavar="N", type=click.IntRange(1, 100_000), default=50, show_default=True,
              help="At most so many, the latest first.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@pass_site
def list_(site: Site, rejected: bool, limit: int, as_json: bool) -> None:
    """List the latest actions.

    \b
    Example:
      wodctl action list --rejected
    """
    found = connect_as_operator(site.state).actions(only_rejected=rejected, limit=limit)
    if as_json:
        click.echo(json.dumps([document(one) for one in found], indent=1))
        return
    heads = ("ID", "ACTION", "SEAT", "CUSTOMER", "WORKSHOP", "FROM", "STATE", "CREATED", "TOOK", "REASON")
    click.echo(table(heads, [_row(one) for one in found]))


@action.command()
@click.argument("number", metavar="ID", type=click.IntRange(min=1))
@click.option("--json", "as_json", is_flag=True, help="Print the action as JSON.")
@pass_site
def show(site: Site, number: int, as_json: bool) -> None:
    """Show one action: its phases, how long each took, the reason if it failed, what the site's scripts wrote, what
    the portal is still to be told.

    \b
    Example:
      wodctl action show 12
    """
    found = _known(connect_as_operator(site.state), number)
    if as_json:
        click.echo(json.dumps(document(found), indent=1))
        return
    click.echo(sentence(found))
    facts = [
        ("created", _time(found.created)),
        ("started", _time(found.started)),
        ("finished", _time(found.finished)),
        ("from", " ".join(filter(None, (found.source, found.sender, found.client)))),
        ("reason", found.reason or "-"),
        ("completion", "-" if found.completion is None else f"{found.completion} %"),
    ]
    facts += [("owed", update) for update in found.owed]
    facts += [(f"  {phase['name']}", _seconds(phase["seconds"])) for phase in found.phases]
    click.echo(table((), facts))
    for phase in found.phases:
        if "output" in phase:
            click.echo(f"\n{phase['name']}:\n{indent(phase['output'].rstrip(), '  ')}")


@action.command()
@click.argument("number", metavar="ID", type=click.IntRange(min=1))
@pass_site
def retry(site: Site, number: int) -> None:
    """Queue a failed action again.

    \b
    Example:
      wodctl action retry 12
    """
    database = connect_as_operator(site.state)
    found = _known(database, number)
    seat = database.seat(found.seat) if found.seat else None
    if seat and seat.state in ("preparing", "ready") and seat.customer != found.customer:
        raise ActionFailed(
            f"Seat {seat.number} belongs to customer {seat.customer} by now; action {number} would take it from him.",
            hint="`wodctl student show` tells until when; `wodctl action submit` orders what is to be done after that.",
        )
    if not database.retry_action(number):
        raise UsageProblem(
            f"Action {number} {became(found)}; only one that has failed can be tried again.",
            hint="`wodctl action submit` orders a new one.",
        )
    click.echo(f"Action {number} is queued again.")


def _order(site: Site, kind: str, seats: str, customer: int, workshop: str | None) -> Order:
    """The order in the words of the command line. Raises UsageProblem or Rejected."""
    words = _SEATS.fullmatch(seats)
    if not words:
        raise UsageProblem(f"{seats!r} is no seat; expected a number, or for RESET min,max such as 1,20.")
    if kind != "PURGE" and not workshop:
        raise UsageProblem(f"{kind} needs to know the workshop.", hint="Name it with -w WKSHP-NAME.")
    order = Order(kind, int(words[1]), int(words[2] or words[1]), customer, workshop)
    if kind == "CREATE":
        # What takes a seat back, the worker checks: a seat may still be lent that the site has given up since.
        check_order(order, seat_min=site.settings.WODUSERMIN, seat_max=site.settings.WODUSERMAX)
    return order


def ended(database: Database, number: int, timeout: float) -> Action:
    """The action once it has ended. Raises Unavailable if that takes longer than `timeout` seconds."""
    end = time.monotonic() + timeout
    while (found := _known(database, number)).state not in ENDED:
        if time.monotonic() > end:
            raise Unavailable(
                f"Action {number} {became(found)} after {timeout:.0f} s.",
                hint=f"It goes on; `wodctl action show {number}` tells how far it is.",
            )
        time.sleep(0.2)
    return found


def _known(database: Database, number: int) -> Action:
    found = database.action(number)
    if found is None:
        raise UsageProblem(f"There is no action {number}.", hint="`wodctl action list` shows the latest.")
    return found


def document(found: Action) -> dict[str, Any]:
    """The action as scripts read it."""
    return {
        "id": found.id,
        "action": found.action,
        "seat": found.seat if found.seat == found.last_seat else [found.seat, found.last_seat],
        "customer": found.customer,
        "workshop": found.workshop,
        "source": found.source,
        "state": found.state,
        "reason": found.reason,
        "phases": found.phases,
        "created": found.created.isoformat(),
        "started": found.started.isoformat() if found.started else None,
        "finished": found.finished.isoformat() if found.finished else None,
        "sender": found.sender,
        "client": found.client,
        "completion": found.completion,
        "owed": found.owed,
    }


def _row(found: Action) -> Sequence[str]:
    took = (
        (found.finished - found.created).total_seconds() if found.finished and found.state == "done" else None
    )
    return (
        str(found.id), found.action or "-", _seats(found), _text(found.customer), found.workshop or "-",
        found.source, found.state, _time(found.created), _seconds(took), found.reason or "",
    )  # fmt: skip


def sentence(found: Action) -> str:
    """What it is and what became of it."""
    what = f"{found.action} of seat {_seats(found)}" if found.action else "a mail that is no order"
    with_workshop = f" with {found.workshop}" if found.workshop else ""
    return f"Action {found.id}, {what}{with_workshop}, {became(found)}."


def became(found: Action) -> str:
    """The end of a sentence about it."""
    return {
        "queued": "is queued",
        "running": "is running",
        "done": "is done",
        "failed": "failed",
        "rejected": "was rejected",
    }[found.state]


def _seats(found: Action) -> str:
    return _text(found.seat) if found.seat == found.last_seat else f"{found.seat},{found.last_seat}"


def _text(number: int | None) -> str:
    return "-" if number is None else str(number)


def _time(when: datetime | None) -> str:
    return when.astimezone().strftime("%Y-%m-%d %H:%M:%S") if when else "-"


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f} s"
