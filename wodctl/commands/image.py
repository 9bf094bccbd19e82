"""`wodctl build`: the images of the stack."""

import time
from collections.abc import Sequence

import click

from notebooks_loader.catalogue import Workshop
from notebooks_loader.kernels import lab_of
from wodctl.adapters.engine import image_exists
from wodctl.adapters.labs import PLAIN, Lab
from wodctl.commands.site import Site, pass_site
from wodctl.errors import ConfigProblem, ContentProblem, EngineProblem, UsageProblem


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@pass_site
def build(site: Site, names: tuple[str, ...]) -> None:
    """Build the images that are missing or out of date; without names, all of the stack, and the labs (images
    that participants work in) that this site's workshops need.

    \b
    Examples:
      wodctl build
      wodctl build lab labs/jvm
    """
    known = [*site.builder.images(), *site.builder.workshop_labs()]
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise UsageProblem(f"There is no image {unknown[0]!r}.", hint=f"There are: {', '.join(known)}.")
    site.engine.ensure_answers()
    ensure_built(site, list(names) or site.builder.images())
    if not names:
        ensure_labs(site)


def ensure_built(site: Site, names: Sequence[str]) -> None:
    """Build those of the images that are not there as they should be, and say so."""
    missing = [name for name in site.builder.missing() if name in names]
    if not missing:
        click.echo(f"Images are up to date: {', '.join(names)}.")
        return
    click.echo(f"Building {', '.join(missing)} …")
    start = time.monotonic()
    site.builder.build(missing)
    click.echo(f"Built {', '.join(missing)} in {time.monotonic() - start:.0f} s.")


def ensure_labs(site: Site) -> dict[str, str]:
    """Build the labs that this site wants, and return the images of those that there are, by the labs' names.

    One that cannot be built is told of and left out: its workshops are refused, the others go on.
    """
    for lab in _wanted_labs(site):
        try:
            ensure_built(site, [site.builder.labs[lab].image])
        except EngineProblem as problem:
            click.echo(f"The lab {lab} is left out: {problem.message}", err=True)
    tags = {name: site.builder.tag(lab.image) for name, lab in site.builder.labs.items()}
    return {name: tag for name, tag in tags.items() if image_exists(tag)}


def lab_for(site: Site, workshop: Workshop) -> Lab:
    """The lab that a workshop is given in, whether or not it is built. Raises ContentProblem if there is none."""
    return site.builder.labs[lab_of(workshop, _kernels(site))]


def kernels_for(site: Site, workshop: Workshop) -> frozenset[str]:
    """The kernels that the workshop's participants have. Raises ContentProblem for a lab that there is not."""
    return lab_for(site, workshop).kernels | site.builder.labs[PLAIN].kernels


def _kernels(site: Site) -> dict[str, frozenset[str]]:
    return {name: lab.kernels for name, lab in site.builder.labs.items()}


def _wanted_labs(site: Site) -> list[str]:
    """The workshops' labs that are to be built, as WODLABS says. Raises ConfigProblem for one that there is not."""
    labs, wanted = site.builder.labs, site.settings.WODLABS
    if wanted != ["auto"]:
        unknown = sorted(set(wanted) - set(labs))
        if unknown:
            raise ConfigProblem(
                f"{site.origins['WODLABS']}: there is no lab {unknown[0]!r}.",
                hint=f"There are: {', '.join(sorted(set(labs) - {PLAIN}))}.",
            )
        return wanted
    catalogue = site.workshops.catalogue()
    found = set()
    for name in catalogue.names():
        try:
            found.add(lab_for(site, catalogue.workshop(name)).name)
        except ContentProblem:
            continue  # `workshop validate` tells
    return sorted(found - {PLAIN})
