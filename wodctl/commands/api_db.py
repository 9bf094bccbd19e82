"""`wodctl api-db`: the registration API's catalogue, and what it takes over from an original."""

import json
from pathlib import Path

import click

from wodctl.adapters.api_db import ApiDb
from wodctl.adapters.original import rows_of_api, rows_of_dump
from wodctl.commands.registration import serves_registrations, update_catalogue
from wodctl.commands.site import Site, pass_site
from wodctl.errors import ContentProblem, UsageProblem
from wodctl.model.backend import backends


@click.group("api-db")
def api_db() -> None:
    """The registration API on this host: its catalogue, and what it takes over."""


@api_db.command()
@pass_site
def sync(site: Site) -> None:
    """Bring its workshops, backends and seats to what wod.yml files and settings say; `up` does so too.

    Seats that somebody has, and the places that are left, stay as they are.

    \b
    Example:
      wodctl api-db sync
    """
    if not serves_registrations(site.settings):
        raise UsageProblem("This host has no registration API.", hint="`wodctl up -t all` starts one.")
    changed = update_catalogue(site)
    if not any(changed[what] for what in ("new", "changed", "removed")):
        click.echo("The catalogue is up to date.")


@api_db.command("import")
@click.argument("source")
@click.option("--user", default="moderator", show_default=True, help="Whom to log in as, at a live API.")
@click.option("--password-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="File with his password, on one line; without it you are asked.")  # fmt: skip
@pass_site
def import_(site: Site, source: str, user: str, password_file: Path | None) -> None:
    """Take over workshops, backends, seats, registrations and badges of an original.

    SOURCE is a plain dump of its database (pg_dump), or the address of its live API. Rows keep their numbers;
    registrations that are open go on here. Passwords are not taken over. It may be run again: what is here already
    stays as it is. What is odd is mended and told; rows that cannot be are printed, and the exit code is not 0.

    \b
    Examples:
      wodctl api-db import dump.sql
      wodctl api-db import https://portal.example.net:8021/api --password-file moderator.txt
    """
    if source.startswith(("http://", "https://")):
        password = (
            password_file.read_text().strip() if password_file else click.prompt("Password", hide_input=True)
        )
        rows = rows_of_api(source.rstrip("/"), user, password)
    elif Path(source).is_file():
        rows = rows_of_dump(Path(source))
    else:
        raise UsageProblem(f"{source} is no file, and no address with http:// or https://.")
    done = ApiDb(site.engine).ask("import", tables=rows)
    for what, counted in (("Taken over", done["new"]), ("Here already", done["known"])):
        if counted:
            parts = [f"{count} {name.replace('_', ' ')}" for name, count in counted.items()]
            click.echo(f"{what}: {', '.join(parts)}.")
    for note in done["notes"]:
        click.secho(note, fg="yellow", err=True)
    places = {place.get("name"): place for place in reversed(rows.get("locations", []))}
    served = {(backend.name, backend.base) for backend in backends(site.settings)}
    theirs = [
        place
        for place in places.values()
        if (place.get("name"), int(place.get("basestdid") or 0)) not in served
    ]
    if theirs:
        wanted = [
            f"{one['name']}:{one.get('port') or 8000}:{one.get('proto') or 'http'}:{one.get('basestdid') or 0}"
            for one in sorted(places.values(), key=lambda one: int(one.get("basestdid") or 0))
        ]
        click.secho("They have other backends than WODBACKENDS names. To keep them, set:", fg="yellow")
        click.echo(f"  WODBACKENDS: [{', '.join(wanted)}]")
    for one in done["left"]:
        click.echo(f"Not taken over, {one['why']}: {json.dumps(one)}", err=True)
    if done["left"]:
        raise ContentProblem(
            f"{len(done['left'])} rows could not be taken over; they are printed above.",
            hint="All others are here. Correct them in the original, and run this again.",
        )
