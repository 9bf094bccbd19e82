"""`wodctl backup` and `restore`: all that cannot be made anew, in one file."""

from pathlib import Path

import click

from wodctl.adapters.backup import FOLDER, Backups
from wodctl.adapters.state import StateDirectory
from wodctl.commands.image import ensure_built
from wodctl.commands.site import Site, pass_site


@click.command()
@click.option("--to", "folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Where to write it (default: backups, below the state directory).")  # fmt: skip
@click.option("--keep", type=click.IntRange(1), default=7, show_default=True, metavar="N",
              help="Remove all but the N newest there.")  # fmt: skip
@pass_site
def backup(site: Site, folder: Path | None, keep: int) -> None:
    """Write settings, secrets, homes, mails that wait and databases into one file; everything goes on meanwhile.

    Whoever has the file has every secret of this site: only its owner may read it. Copy it to another machine.

    \b
    Examples:
      wodctl backup
      wodctl backup --to /mnt/backups --keep 30
    """
    ensure_built(site, ["base"])
    backups = Backups(site.state, site.engine, site.builder.tag("base"))
    file = backups.make((folder or site.state / FOLDER).absolute(), keep)
    click.echo(f"{file} ({file.stat().st_size / 2**20:.1f} MiB)")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@pass_site
def restore(site: Site, file: Path) -> None:
    """Bring the backup FILE back into an empty state directory; `wodctl up` then starts everything from it.

    Participants find their files, and log in as before; their servers start anew.

    \b
    Example:
      wodctl restore wod-20300101T031500Z.tar.gz && wodctl up
    """
    ensure_built(site, ["base"])
    with StateDirectory(site.state, site.root).locked():
        Backups(site.state, site.engine, site.builder.tag("base")).restore(file)
    click.echo(f"{site.state} has settings, secrets and data again. Now run `wodctl up`.")
