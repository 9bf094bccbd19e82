"""`wodctl author`: a workshop on its author's desk, rendered at each save."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from notebooks_loader.catalogue import Catalogue, Workshop
from notebooks_loader.variables import stand_ins
from wodctl.adapters.desk import ApplianceBeside, Desk
from wodctl.adapters.engine import image_exists
from wodctl.adapters.labs import PLAIN
from wodctl.commands.appliance import ENGINE_SOCKET, ensure_current, plan_of
from wodctl.commands.image import lab_for
from wodctl.commands.site import Site, pass_site
from wodctl.model.appliance import read_definition


@click.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--port",
    envvar="WOD_AUTHOR_PORT",
    type=click.IntRange(1, 65535),
    default=8888,
    show_default=True,
    help="Port of this computer's own address (127.0.0.1). [env: WOD_AUTHOR_PORT]",
)
@pass_site
def author(site: Site, path: Path, port: int) -> None:
    """See the workshop in the folder PATH as participants will, in a JupyterLab on this computer.

    It is shown as student 1, as a challenge, and as student 20, and within a second of each save anew; what is
    wrong with it is shown there, and here. Your folder is never written to. Ctrl-C ends it and leaves nothing
    behind.

    \b
    Example:
      wodctl author ~/notebooks/WKSHP-Git101
    """
    folder = path.resolve()
    workshop = Catalogue(folder.parent).workshop(folder.name)
    lab = lab_for(site, workshop)
    sources = replace(site.workshops, public=folder.parent).variables()

    def variables(mode: str, seat: int) -> dict[str, Any]:
        return stand_ins(workshop.name) | sources.of(workshop.name, mode, seat)

    site.engine.ensure_answers()
    desk = "desk" if lab.name == PLAIN else f"desk/{lab.name}"
    image = site.builder.tag(desk)
    if not image_exists(image):
        click.echo("Building the desk; minutes the first time …")
        site.builder.build([desk])
    beside = _appliance(site, workshop, f"{site.project}-author-{port}")
    click.echo("Open the address below in your browser; Ctrl-C ends it.")
    Desk(site.root, site.state, site.project, folder, port).run(image, variables, beside)


def _appliance(site: Site, workshop: Workshop, project: str) -> ApplianceBeside | None:
    """The workshop's appliance, built if it has to be; None if it needs none."""
    name = workshop.name.removeprefix("WKSHP-")
    folders = site.builder.appliance_folders()
    if name not in folders:
        return None
    ensure_current(site, name, folders[name])
    definition = read_definition(site.state / "rendered" / "appliances", name)
    assert definition is not None  # it was made just now
    return ApplianceBeside(ENGINE_SOCKET, definition, plan_of(site, "10.0.0.0/8"), project)
