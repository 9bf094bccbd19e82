"""`wodctl registration`: who is registered; participants registered and taken off by hand."""

import dataclasses
import json
from typing import Any

import click

from wodctl.adapters.api_db import ApiDb
from wodctl.commands.site import Site, pass_site
from wodctl.commands.table import table
from wodctl.model.backend import backends
from wodctl.model.settings import Settings


@click.group()
def registration() -> None:
    """Participants of the registration API on this host: list, add, cancel."""


@registration.command("list")
@click.option("--all", "everybody", is_flag=True, help="Those whose session is over too.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@pass_site
def list_(site: Site, everybody: bool, as_json: bool) -> None:
    """List registrations, newest first: state, seat, end.

    States: new, welcome (his seat is being made ready), credentials (he works), expiring (his last hour), expired,
    error (the seat was not ready in time), unregister.

    \b
    Example:
      wodctl registration list
    """
    found = ApiDb(site.engine).ask("registrations", all=everybody)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    heads = ("ID", "STATE", "SEAT", "WORKSHOP", "NAME", "E-MAIL", "END", "DONE")
    rows = [
        (str(one["id"]), one["state"], f"{one['seat'] or '-'}@{one['location']}", one["workshop"] or "-", one["name"],
         one["email"], one["end"][:16].replace("T", " "), f"{one['completion']} %")
        for one in found
    ]  # fmt: skip
    click.echo(table(heads, rows))


@registration.command()
@click.argument("workshop")
@click.argument("email")
@click.option("--name", help="The participant's name (default: the first part of his address).")
@click.option("--company", default="", help="His company.")
@click.option("--json", "as_json", is_flag=True, help="Print the registration as JSON.")
@pass_site
def add(site: Site, workshop: str, email: str, name: str | None, company: str, as_json: bool) -> None:
    """Register a participant for a WORKSHOP, named by its folder or by its title, as the portal would.

    \b
    Example:
      wodctl registration add WKSHP-Welcome101 ada@example.net --name 'Ada Lovelace'
    """
    said = {"title": workshop, "email": email, "name": name or email.partition("@")[0], "company": company}
    made = ApiDb(site.engine).ask("register", **said, proxy="wodctl")
    if as_json:
        click.echo(json.dumps(made, indent=1))
        return
    click.echo(f"Registration {made['id']}: {made['name']} has {made['seat']} at {made['location']}.")


@registration.command()
@click.argument("number", metavar="ID", type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True, help="Print the registration as JSON.")
@pass_site
def cancel(site: Site, number: int, as_json: bool) -> None:
    """End registration ID at once: the seat is taken back, with all that is in it.

    \b
    Example:
      wodctl registration cancel 17
    """
    ended = ApiDb(site.engine).ask("cancel", id=number)
    click.echo(json.dumps(ended, indent=1) if as_json else f"Registration {number} is ended.")


def serves_registrations(settings: Settings) -> bool:
    """Whether this host has the registration API."""
    return settings.WODTYPE != "backend"


def update_catalogue(site: Site) -> dict[str, Any]:
    """Tell the registration API of this host's backends and workshops; says and returns what has changed."""
    served = [dataclasses.asdict(one) for one in backends(site.settings)]
    changed: dict[str, Any] = ApiDb(site.engine).ask(
        "update-catalogue", backends=served, workshops=_workshops(site)
    )
    for what in ("new", "changed", "removed"):
        if changed[what]:
            click.echo(f"Catalogue, {what}: {', '.join(changed[what])}.", err=True)
    for note in changed["notes"]:
        click.secho(f"Catalogue: {note}", fg="yellow", err=True)
    return changed


def _workshops(site: Site) -> list[dict[str, Any]]:
    found = []
    for workshop in site.workshops.catalogue().all():
        values = dataclasses.asdict(workshop.metadata)
        for ours in ("egress", "lab", "secrets"):  # of no interest to a portal, and not in its tables
            del values[ours]
        values |= {
            "notebook": workshop.name,
            "category": list(workshop.metadata.category),
            "range": list(workshop.metadata.range) if workshop.metadata.range else None,
            "compile": ",".join(workshop.metadata.compile) or "false",
        }
        # Left open in the file: portals know only yes and no.
        values |= {name: bool(values[name]) for name in ("varpass", "monoappliance", "multiappliance")}
        found.append(values)
    return found
