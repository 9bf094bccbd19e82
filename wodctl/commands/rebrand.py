"""`wodctl rebrand`: former wordings in workshops replaced by the site's variables."""

import difflib
from pathlib import Path

import click

from notebooks_loader.rebranding import Change, changes, read_rules
from wodctl.commands.site import Site, pass_site

OVERLAY_RULES = "ansible/rebranding.yml"
"""A site's own rules, below WODPRIVDIR; used instead of conf/rebranding.yml."""


@click.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--apply", "apply", is_flag=True, help="Change the files; without it they are only shown.")
@pass_site
def rebrand(site: Site, path: Path, apply: bool) -> None:
    """Replace former names, logos and addresses in workshops by {{ BRANDING }} and its like.

    PATH is a workshop or a folder of workshops. Shows what would change; changes it with --apply. Only files
    that are rendered for participants are changed. The rules are those of the private repository
    (ansible/rebranding.yml), else conf/rebranding.yml. Run again, it changes nothing.

    \b
    Examples:
      wodctl rebrand ~/notebooks
      wodctl rebrand ~/notebooks --apply
    """
    rules = _rules(site)
    found, by_hand = changes(path, read_rules(rules))
    for change in found:
        if apply:
            change.apply()
            click.echo(f"Changed {change.path}.")
        else:
            _show(change)
    for other in by_hand:
        click.echo(f"{other} is not rendered for participants: change it by hand.", err=True)
    if found and not apply:
        click.echo(
            f"\n{len(found)} file(s) would change, by the rules of {rules}; --apply changes them.", err=True
        )
    elif not found:
        click.echo(f"Nothing to change, by the rules of {rules}.", err=True)


def _rules(site: Site) -> Path:
    private = site.settings.WODPRIVDIR
    own = Path(private) / OVERLAY_RULES
    return own if private and own.is_file() else site.root / "conf" / "rebranding.yml"


def _show(change: Change) -> None:
    name = str(change.path)
    before, after = change.before.splitlines(keepends=True), change.after.splitlines(keepends=True)
    for line in difflib.unified_diff(before, after, name, name, n=1):
        color = {"-": "red", "+": "green"}.get(line[0])
        click.secho(line.rstrip("\r\n"), fg=color)
