"""`wodctl workshop new` and `readme`: how a workshop begins, and what visitors of its repository see."""

from pathlib import Path

import click

from notebooks_loader.catalogue import Catalogue
from notebooks_loader.fresh import make_workshop
from notebooks_loader.readme import readme as readme_of
from wodctl.adapters.configuration import read_layer
from wodctl.commands.site import Site, pass_site
from wodctl.model import settings

EXAMPLE_HOST = "wod.example.org"
"""The host that a README names: it must not depend on the one where it is made."""


@click.command()
@click.argument("name", type=click.Path(path_type=Path))
@pass_site
def new(site: Site, name: Path) -> None:
    """Make a small complete workshop, to be changed into yours.

    NAME is its name, or a folder and its name. It can be delivered at once, and nobody can register for it
    until its wod.yml says so.

    \b
    Example:
      wodctl workshop new ~/notebooks/WKSHP-Git101
    """
    folder = make_workshop(site.root / "notebooks-loader" / "template" / "WKSHP-Template101", name.absolute())
    click.echo(f"Made {folder}. See it as participants will: wodctl author {folder}")


@click.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
@pass_site
def readme(site: Site, path: Path) -> None:
    """Write the README.md of the workshop in the folder PATH, from its first page 0-ReadMeFirst.ipynb.

    It is rendered as a workshop with the default settings, whatever this site's are.

    \b
    Example:
      wodctl workshop readme ~/notebooks/WKSHP-Git101
    """
    folder = path.resolve()
    defaults = read_layer(site.root / "conf" / "defaults.yml")
    values, _ = settings.merge([defaults], host_name=EXAMPLE_HOST, processors=1)
    text = readme_of(Catalogue(folder.parent).workshop(folder.name), values.variables)
    (folder / "README.md").write_text(text, encoding="utf-8")
    click.echo(f"Wrote {folder / 'README.md'}.")
