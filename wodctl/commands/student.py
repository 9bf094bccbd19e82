"""`wodctl student`: the seats, whose they are, and their passwords."""

import json
import re
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from wodctl.adapters.database import Action, Database, connect_as_operator
from wodctl.adapters.homes import copy_from_home
from wodctl.adapters.process import ProgramFailed
from wodctl.commands.appliance import appliances_by_seat
from wodctl.commands.site import Site, pass_site
from wodctl.commands.table import table
from wodctl.errors import ActionFailed, UsageProblem
from wodctl.model import registration
from wodctl.model.seat import BY_HAND, Seat, new_password, user_name

_TIME = re.compile(r"(?:([0-9]{1,3})h)?(?:([0-9]{1,3})m)?")
_SEATS = re.compile(r"([1-9][0-9]{0,5})(?:-([1-9][0-9]{0,5}))?")

LONGEST_NOTICE = 500
"""Characters that a participant is told at once."""


@click.group()
def student() -> None:
    """See the seats, give them passwords and time, take them back."""


@student.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@pass_site
def list_(site: Site, as_json: bool) -> None:
    """List all seats: state, workshop, lease.

    \b
    Example:
      wodctl student list
    """
    seats = connect_as_operator(site.state).seats()
    running = _running_servers(site)
    appliances = appliances_by_seat(site)
    documents = [_document(site, seat, running, appliances) for seat in seats]
    if as_json:
        click.echo(json.dumps(documents, indent=1))
        return
    heads = ("SEAT", "USER", "STATE", "SERVER", "WORKSHOP", "CUSTOMER", "LEASE UNTIL", "REASON")
    rows = [
        (str(seat.number), user_name(seat.number), seat.state, document["server"], _workshop(seat),
         "-" if seat.customer is None else str(seat.customer), _lease(seat), seat.reason or "")
        for seat, document in zip(seats, documents, strict=True)
    ]  # fmt: skip
    click.echo(table(heads, rows))


@student.command()
@click.argument("number", metavar="N", type=click.IntRange(min=1))
@click.option("--json", "as_json", is_flag=True, help="Print the seat as JSON.")
@pass_site
def show(site: Site, number: int, as_json: bool) -> None:
    """Show seat N.

    \b
    Example:
      wodctl student show 3
    """
    database = connect_as_operator(site.state)
    seat = database.seat(number)
    if seat is None:
        raise _no_such_seat(site, number)
    document = _document(site, seat, _running_servers(site), appliances_by_seat(site))
    document |= {"notices": database.notices(number)}
    if as_json:
        click.echo(json.dumps(document, indent=1))
        return
    facts = [
        ("user", document["user"]),
        ("state", seat.state + (f": {seat.reason}" if seat.reason else "")),
        ("server", document["server"]),
        ("workshop", _workshop(seat)),
        ("customer", "-" if seat.customer is None else str(seat.customer)),
        ("lease until", _lease(seat)),
        ("address", document["url"]),
        *(("told", text) for text in document["notices"]),
    ]
    click.echo(table((), facts))


@student.command()
@click.argument("number", metavar="N", type=click.IntRange(min=1))
@pass_site
def password(site: Site, number: int) -> None:
    """Give seat N a new password and print it; the former one is refused from now on.

    Where the seat's workshop is flagged `ldap` the directory gets it too, and the registration API is told.

    \b
    Example:
      wodctl student password 3
    """
    fresh = new_password()
    try:
        site.engine.run_in_worker(["python", "-m", "wodctl.worker", "password", str(number)], fresh)
    except ProgramFailed as error:
        message, _, hint = error.output.strip().partition("\n")
        raise ActionFailed(message or "The worker ended without a word.", hint=hint) from None
    click.echo(f"The new password of {user_name(number)}:", err=True)
    click.echo(fresh)


@student.command()
@click.argument("number", metavar="N", type=click.IntRange(min=1))
@click.argument("longer", metavar="TIME")
@pass_site
def extend(site: Site, number: int, longer: str) -> None:
    """Let the lease of seat N last longer by TIME, such as 30m, 2h or 1h30m, and print its new end.

    A registration database is told, so that its portal sends the CLEANUP later; that of a portal without one ends
    the lease all the same.

    \b
    Example:
      wodctl student extend 3 30m
    """
    words = _TIME.fullmatch(longer)
    if not words or not (words[1] or words[2]):
        raise UsageProblem(
            f"{longer!r} is no time; expected hours and minutes such as 30m, 2h or 1h30m, up to 999."
        )
    database = connect_as_operator(site.state)
    until = database.extend_lease(number, timedelta(hours=int(words[1] or 0), minutes=int(words[2] or 0)))
    if until is None:
        seat = database.seat(number)
        if seat is None:
            raise _no_such_seat(site, number)
        raise ActionFailed(f"Seat {number} is {seat.state}; only a seat that is ready has a lease to extend.")
    holder = database.seat(number)
    if site.settings.WODAPIDB and holder and holder.customer:
        database.owe_holder(number, holder.customer, [registration.ends(holder.customer, until)])
    click.echo(f"{user_name(number)} has seat {number} until {until.astimezone():%Y-%m-%d %H:%M}.")


@student.command()
@click.argument("seats", metavar="N[-M]|all")
@click.argument("text", required=False)
@click.option("--withdraw", is_flag=True, help="Take back what was said before, instead of saying something.")
@pass_site
def warn(site: Site, seats: str, text: str | None, withdraw: bool) -> None:
    """Say TEXT to the participants of seat N, of the seats N to M, or of all, in their JupyterLab.

    It shows within half a minute, and stays until each closes it or his lease ends.

    \b
    Examples:
      wodctl student warn 3 "Please save your work: the room is needed at noon."
      wodctl student warn all "The host restarts at 18:00."
      wodctl student warn all --withdraw
    """
    first, last = _seats(site, seats)
    database = connect_as_operator(site.state)
    if withdraw == (text is not None):
        raise UsageProblem("Expected either a TEXT or --withdraw.")
    if withdraw:
        database.remove_notices(first, last, "operator")
        click.echo("Taken back.")
        return
    text = str(text).strip()
    if not 1 <= len(text) <= LONGEST_NOTICE or any(not (c.isprintable() or c == "\n") for c in text):
        raise UsageProblem(f"The text must be 1 to {LONGEST_NOTICE} printable characters.")
    told = database.add_notice(first, last, "operator", text)
    if not told:
        raise ActionFailed("Nobody was told: none of these seats is ready.")
    click.echo(f"Told {len(told)} seat{'s' if len(told) > 1 else ''}: {', '.join(map(str, told))}.")


@student.command()
@click.argument("number", metavar="N", type=click.IntRange(min=1))
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), default=".", metavar="DIR",
              help="Where to put the files (default: here).")  # fmt: skip
@pass_site
def export(site: Site, number: int, output: Path) -> None:
    """Make a PDF, a Word document and a zip of the workshop of seat N, as its participant has it now.

    The participant finds them in his folder Take-home too; he makes them himself with File > Take Home.

    \b
    Example:
      wodctl student export 3 -o /tmp
    """
    database = connect_as_operator(site.state)
    ordered = database.order_export(number)
    if ordered is None:
        seat = database.seat(number)
        if seat is None:
            raise _no_such_seat(site, number)
        raise ActionFailed(
            f"Seat {number} is {seat.state}; only a seat that is ready has something to export."
        )
    action = _ended(database, [ordered])[0]
    if action.state != "done":
        raise ActionFailed(f"Nothing was exported: {action.reason or action.state}")
    folder = "WKSHP-" + str(action.workshop).partition("-")[2]
    home = site.state / "data" / "students" / user_name(number)
    output.mkdir(parents=True, exist_ok=True)
    for name in (f"{folder}.pdf", f"{folder}.docx", f"{folder}.zip"):
        target = output / f"{user_name(number)}-{name}"
        copy_from_home(home, ("Take-home", name), target)
        click.echo(target)


@student.command()
@click.argument("seats", metavar="N[-M]")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_site
def wipe(site: Site, seats: str, yes: bool) -> None:
    """Take seat N, or the seats N to M, back at once, whoever works there: his work is lost.

    \b
    Example:
      wodctl student wipe 1-20
    """
    words = _SEATS.fullmatch(seats)
    if not words:
        raise UsageProblem(f"{seats!r} are no seats; expected a number, or two as in 1-20.")
    first, last = int(words[1]), int(words[2] or words[1])
    database = connect_as_operator(site.state)
    # Those that the site has given up, but that are still lent, are among them.
    known = {seat.number for seat in database.seats()}
    missing = [number for number in (first, last) if number not in known]
    if first > last or missing:
        raise _no_such_seat(site, (missing or [first])[0])
    if not yes:
        what = f"seat {first}" if first == last else f"the seats {first} to {last}"
        click.confirm(f"Remove the server and all files of {what}?", abort=True)
    count = take_back(database, [number for number in range(first, last + 1) if number in known])
    click.echo(f"Wiped {count} seat{'' if count == 1 else 's'}.")


def take_back(database: Database, seats: Sequence[int]) -> int:
    """Take these seats back, whoever works there, and return how many they were. Raises ActionFailed."""
    numbers = [database.submit_action("PURGE", seat, seat, BY_HAND, None, "cli") for seat in seats]
    failed = [action for action in _ended(database, numbers) if action.state != "done"]
    if failed:
        raise ActionFailed(
            f"{len(failed)} of {len(numbers)} seats could not be wiped; "
            f"seat {failed[0].seat}: {failed[0].reason or failed[0].state}",
            hint=f"`wodctl action show {failed[0].id}` tells more.",
        )
    return len(numbers)


def _seats(site: Site, words: str) -> tuple[int, int]:
    """First and last of the seats that the words name. Raises UsageProblem."""
    least, most = site.settings.WODUSERMIN, site.settings.WODUSERMAX
    if words == "all":
        return least, most
    numbers = _SEATS.fullmatch(words)
    if not numbers:
        raise UsageProblem(f"{words!r} are no seats; expected a number, or two as in 1-20.")
    first, last = int(numbers[1]), int(numbers[2] or numbers[1])
    if not least <= first <= last <= most:
        raise _no_such_seat(site, last if least <= first <= last else first)
    return first, last


def _ended(database: Database, numbers: list[int]) -> list[Action]:
    """The actions once they have ended, or as they are after five minutes."""
    end = time.monotonic() + 300
    while True:
        actions = [action for action in map(database.action, numbers) if action]
        if time.monotonic() > end or all(action.finished for action in actions):
            return actions
        time.sleep(0.3)


def _no_such_seat(site: Site, number: int) -> UsageProblem:
    first, last = site.settings.WODUSERMIN, site.settings.WODUSERMAX
    return UsageProblem(f"There is no seat {number}.", hint=f"The seats of this site are {first} to {last}.")


def _document(
    site: Site, seat: Seat, running: set[int], appliances: Mapping[int, list[dict[str, Any]]]
) -> dict[str, Any]:
    """The seat as scripts read it."""
    return {
        "seat": seat.number,
        "user": user_name(seat.number),
        "state": seat.state,
        "workshop": seat.workshop,
        "mode": seat.mode,
        "customer": seat.customer,
        "lease_until": seat.lease_until.isoformat() if seat.lease_until else None,
        "reason": seat.reason,
        "server": _server(seat, running),
        "appliances": appliances.get(seat.number, []),
        "url": f"{site.settings.seat_origin.format(user=user_name(seat.number))}/user/{user_name(seat.number)}/lab?",
    }


def _server(seat: Seat, running: set[int]) -> str:
    """ready, starting or stopped, by the engine: a seat is ready only after its container has answered."""
    if seat.number not in running:
        return "stopped"
    return "starting" if seat.state == "preparing" else "ready"


def _running_servers(site: Site) -> set[int]:
    return {
        int(container["Config"]["Labels"]["wod.seat"])
        for container in site.engine.seats()
        if container["State"]["Running"]
    }


def _workshop(seat: Seat) -> str:
    return seat.workshop or "-"


def _lease(seat: Seat) -> str:
    return seat.lease_until.astimezone().strftime("%Y-%m-%d %H:%M") if seat.lease_until else "-"
