"""`wodctl workshop`: which workshops there are, and whether they can be delivered."""

import json
from pathlib import Path
from typing import Any

import click

from notebooks_loader.catalogue import Catalogue, Workshop
from notebooks_loader.validation import problems
from wodctl.commands import rehearse, writing
from wodctl.commands.site import Site, pass_site
from wodctl.commands.table import table
from wodctl.errors import ContentProblem


@click.group()
def workshop() -> None:
    """See the workshops of this site, and check them."""


@workshop.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@pass_site
def list_(site: Site, as_json: bool) -> None:
    """List all workshops: length, seats, title.

    \b
    Example:
      wodctl workshop list
    """
    catalogue = _catalogue(site)
    documents = [_document(catalogue, name) for name in catalogue.names()]
    if as_json:
        click.echo(json.dumps(documents, indent=1))
        return
    heads = ("WORKSHOP", "HOURS", "CAPACITY", "SEATS", "ACTIVE", "FROM", "TITLE")
    click.echo(table(heads, [_row(document) for document in documents]))


@workshop.command()
@click.argument("path", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@pass_site
def validate(site: Site, path: Path | None) -> None:
    """Check the workshop in the folder PATH, or all workshops of this site.

    Renders every file for the first and the last seat, as a workshop and as a challenge, with the settings of
    this site, and looks whether the notebooks can be opened. Runs no notebook.

    \b
    Example:
      wodctl workshop validate ~/notebooks/WKSHP-Welcome101
    """
    catalogue = Catalogue(path.resolve().parent) if path else _catalogue(site)
    names = [path.resolve().name] if path else catalogue.names()
    broken = 0
    for name in names:
        found = _problems(site, catalogue, name)
        broken += bool(found)
        click.echo(f"{name}: {f'{len(found)} problem(s)' if found else 'good'}")
        for problem in found:
            click.echo(f"  {problem}")
    if broken:
        raise ContentProblem(
            f"{broken} of {len(names)} workshop(s) cannot be delivered as they are.",
            hint="A missing variable goes under `variables:` in the settings of the site.",
        )


def _problems(site: Site, catalogue: Catalogue, name: str) -> list[str]:
    try:
        found = catalogue.workshop(name)
    except ContentProblem as problem:
        return [f"{problem.message} {problem.hint}".strip()]
    settings = site.settings
    return problems(found, settings.variables, [settings.WODUSERMIN, settings.WODUSERMAX])


def _catalogue(site: Site) -> Catalogue:
    settings = site.settings
    public = Path(settings.WODNOBO) if settings.WODNOBO else site.root / "notebooks-loader" / "workshops"
    return Catalogue(public, Path(settings.WODPRIVDIR) / "notebooks" if settings.WODPRIVDIR else None)


def _document(catalogue: Catalogue, name: str) -> dict[str, Any]:
    """The workshop as scripts read it; one that cannot be read has a `problem` and nothing else."""
    try:
        found: Workshop = catalogue.workshop(name)
    except ContentProblem as problem:
        return {"name": name, "problem": f"{problem.message} {problem.hint}".strip()}
    about = found.metadata
    return {
        "name": name,
        "problem": None,
        "title": about.name,
        "active": about.active,
        "capacity": about.capacity,
        "range": about.range,
        "duration_hours": about.duration,
        "private": found.private,
        "path": str(found.path),
    }


def _row(document: dict[str, Any]) -> tuple[str, ...]:
    if document["problem"]:
        return (document["name"], "-", "-", "-", "-", "-", document["problem"])
    return (
        document["name"],
        f"{document['duration_hours']:g}",
        str(document["capacity"]),
        "-".join(map(str, document["range"])) if document["range"] else "-",
        "yes" if document["active"] else "no",
        "private" if document["private"] else "public",
        document["title"],
    )


for _command in (writing.new, writing.readme, rehearse.test):
    workshop.add_command(_command)
