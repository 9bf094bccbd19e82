"""`wodctl student`: the seats, whose they are, and their passwords."""

import json
from typing import Any

import click

from wodctl.adapters.database import connect_as_operator
from wodctl.commands.site import Site, pass_site
from wodctl.commands.table import table
from wodctl.errors import ActionFailed, UsageProblem
from wodctl.model.seat import Seat, new_password, password_hash, user_name


@click.group()
def student() -> None:
    """See the seats, and give them passwords."""


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
    documents = [_document(site, seat, running) for seat in seats]
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
    seat = connect_as_operator(site.state).seat(number)
    if seat is None:
        raise _no_such_seat(site, number)
    document = _document(site, seat, _running_servers(site))
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
    ]
    click.echo(table((), facts))


@student.command()
@click.argument("number", metavar="N", type=click.IntRange(min=1))
@pass_site
def password(site: Site, number: int) -> None:
    """Give seat N a new password and print it; the former one is refused from now on.

    \b
    Example:
      wodctl student password 3
    """
    database = connect_as_operator(site.state)
    fresh = new_password()
    if not database.set_password(number, password_hash(fresh)):
        seat = database.seat(number)
        if seat is None:
            raise _no_such_seat(site, number)
        raise ActionFailed(
            f"Seat {number} is {seat.state}; only a seat that is ready has a password.",
            hint=f"`wodctl action submit CREATE {number} -w WKSHP-NAME --wait` makes it ready.",
        )
    click.echo(f"The new password of {user_name(number)}:", err=True)
    click.echo(fresh)


def _no_such_seat(site: Site, number: int) -> UsageProblem:
    first, last = site.settings.WODUSERMIN, site.settings.WODUSERMAX
    return UsageProblem(f"There is no seat {number}.", hint=f"The seats of this site are {first} to {last}.")


def _document(site: Site, seat: Seat, running: set[int]) -> dict[str, Any]:
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
        "appliances": [],
        "url": f"{site.url}/user/{user_name(seat.number)}/lab?",
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
