"""`wodctl build`: the images of the stack."""

import time
from collections.abc import Sequence

import click

from wodctl.commands.site import Site, pass_site
from wodctl.errors import UsageProblem


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@pass_site
def build(site: Site, names: tuple[str, ...]) -> None:
    """Build the images that are missing or out of date; without names, all of the stack.

    \b
    Example:
      wodctl build lab
    """
    unknown = sorted(set(names) - set(site.builder.images()))
    if unknown:
        raise UsageProblem(
            f"There is no image {unknown[0]!r}.", hint=f"There are: {', '.join(site.builder.images())}."
        )
    site.engine.ensure_answers()
    ensure_built(site, list(names) or site.builder.images())


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
