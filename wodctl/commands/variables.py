"""`wodctl workshop variables`: values that differ from seat to seat."""

from pathlib import Path

import click

from notebooks_loader import seat_table
from wodctl.commands.site import Site, pass_site
from wodctl.errors import ContentProblem


@click.group()
def variables() -> None:
    """Prepare the variables of a workshop."""


@variables.command("import")
@click.argument("workshop")
@click.argument("table", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@pass_site
def import_(site: Site, workshop: str, table: Path) -> None:
    """Turn the CSV file TABLE into variables of WORKSHOP, on standard output.

    The first line of TABLE names the columns, the first column is the seat. Each other column becomes a map that
    notebooks use as {{ NAME[STDID] }}. The result belongs into ansible/<group>/variables_<WORKSHOP>.yml of the
    private repository. Ends with 8, after it has printed all, if a seat of the workshop has no value.

    \b
    Example:
      wodctl workshop variables import WKSHP-OneView seats.csv > ansible/production/variables_WKSHP-OneView.yml
    """
    settings = site.settings
    found = site.workshops.workshop(workshop)
    first, last = found.metadata.range or (settings.WODUSERMIN, settings.WODUSERMAX)
    maps = seat_table.read(table)
    click.echo(seat_table.as_yaml(maps), nl=False)
    absent = seat_table.missing(maps, range(first, last + 1))
    if absent:
        raise ContentProblem(
            " ".join(absent), hint=f"{found.name} is given to the seats {first} to {last}: complete {table}."
        )
