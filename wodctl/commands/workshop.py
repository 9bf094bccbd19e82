"""`wodctl workshop`: which workshops there are, and whether they can be delivered."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from notebooks_loader.catalogue import Catalogue, Workshop
from notebooks_loader.validation import Finding, Variables, examine, examine_maps, examine_seats, flags
from notebooks_loader.variables import Sources, stand_ins
from wodctl.adapters.scripts import problems
from wodctl.commands import rehearse, writing
from wodctl.commands.image import kernels_for
from wodctl.commands.site import Site, pass_site
from wodctl.commands.table import table
from wodctl.commands.variables import variables
from wodctl.errors import ContentProblem
from wodctl.model.manifest import read_manifest


@click.group()
def workshop() -> None:
    """See the workshops of this site, and check them."""


workshop.add_command(variables)


@workshop.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@pass_site
def list_(site: Site, as_json: bool) -> None:
    """List all workshops: length, seats, title.

    \b
    Example:
      wodctl workshop list
    """
    catalogue = site.workshops.catalogue()
    documents = [_document(catalogue, name) for name in catalogue.names()]
    if as_json:
        click.echo(json.dumps(documents, indent=1))
        return
    heads = ("WORKSHOP", "HOURS", "CAPACITY", "SEATS", "ACTIVE", "FROM", "TITLE")
    click.echo(table(heads, [_row(document) for document in documents]))


@workshop.command()
@click.argument("path", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@pass_site
def validate(site: Site, path: Path | None, as_json: bool) -> None:
    """Check the workshop in the folder PATH, or all workshops of this site.

    Renders every file for the first and the last of its seats, as a workshop and as a challenge, with the
    variables of this site; looks at maps of values by seat for seats that have none, whether the notebooks can
    be opened, at their kernels, pictures and links, and at wod.yml; for all workshops, at the seats that they
    share. Runs no notebook. Ends with 8 if there is an error; warnings are what looks wrong and works.

    \b
    Example:
      wodctl workshop validate ~/notebooks/WKSHP-Welcome101
    """
    catalogue = Catalogue(path.resolve().parent) if path else site.workshops.catalogue()
    names = [path.resolve().name] if path else catalogue.names()
    found = _findings(site, catalogue, names)
    broken = [name for name in names if any(one.is_error for one in found[name])]
    if as_json:
        click.echo(json.dumps([_found_document(name, found[name]) for name in names], indent=1))
    else:
        for name in names:
            _print_findings(name, found[name])
    if broken:
        raise ContentProblem(
            f"{len(broken)} of {len(names)} workshop(s) cannot be given to participants as they are.",
            hint="A missing variable goes into the workshop's variables or under `variables:` in the site's settings.",
        )


def _findings(site: Site, catalogue: Catalogue, names: list[str]) -> dict[str, list[Finding]]:
    settings, sources = site.settings, site.workshops.variables()
    places = (settings.WODSCRIPTDIR, settings.WODPRIVDIR and f"{settings.WODPRIVDIR}/scripts")
    folders_of_scripts = [Path(place) for place in places if place]
    folders_of_appliances = site.builder.appliance_folders()
    found: dict[str, list[Finding]] = {name: [] for name in names}
    readable = []
    for name in names:
        try:
            one = catalogue.workshop(name)
            kernels = kernels_for(site, one)
        except ContentProblem as problem:
            found[name].append(Finding(f"{problem.message} {problem.hint}".strip(), is_error=True))
            continue
        readable.append(one)
        seats = [
            seat for seat in one.metadata.range or () if settings.WODUSERMIN <= seat <= settings.WODUSERMAX
        ]
        values = partial(_values, sources, name, _sample_values(folders_of_appliances, name))
        ends = seats or [settings.WODUSERMIN, settings.WODUSERMAX]
        found[name] += examine(one, values, ends, kernels)
        found[name] += _of_maps(one, values, range(ends[0], ends[-1] + 1))
        found[name] += [Finding(text, is_error=True) for text in problems(one, folders_of_scripts)]
    for name, finding in examine_seats(readable, settings.WODUSERMIN, settings.WODUSERMAX):
        found[name].append(finding)
    return found


def _of_maps(one: Workshop, values: Variables, seats: range) -> list[Finding]:
    try:
        return examine_maps(one, values("WKSHP", seats[0]), seats)
    except ContentProblem:
        return []  # told by `examine`


def _values(
    sources: Sources, workshop: str, of_appliance: Mapping[str, str], mode: str, seat: int
) -> dict[str, Any]:
    return {**stand_ins(workshop), **sources.of(workshop, mode, seat), **of_appliance}


def _sample_values(folders: Mapping[str, Path], workshop: str) -> dict[str, str]:
    """What the workshop's appliance, if it has one, would hand to the notebooks."""
    folder = folders.get(workshop.partition("-")[2])
    if not folder:
        return {}
    return read_manifest((folder / "appliance.yml").read_text(), f"{folder.name}/appliance.yml").sample_values


def _print_findings(name: str, found: list[Finding]) -> None:
    errors = sum(one.is_error for one in found)
    counts = [f"{count} {what}{'s' if count > 1 else ''}"
              for count, what in ((errors, "error"), (len(found) - errors, "warning")) if count]  # fmt: skip
    click.echo(f"{name}: {', '.join(counts) or 'good'}")
    for one in found:
        click.echo(f"  {'error' if one.is_error else 'warning'}: {one.text}")


def _found_document(name: str, found: list[Finding]) -> dict[str, Any]:
    return {
        "name": name,
        "errors": [one.text for one in found if one.is_error],
        "warnings": [one.text for one in found if not one.is_error],
    }


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
        **asdict(flags(found)),
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
