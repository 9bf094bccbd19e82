"""`wodctl notebooks`: the repositories that workshops and the private overlay are fetched from."""

import contextlib
import json
from collections.abc import Iterable
from dataclasses import asdict

import click

from notebooks_loader.catalogue import Catalogue
from wodctl.adapters.repositories import Repositories, Status
from wodctl.adapters.state import StateDirectory
from wodctl.commands.registration import serves_registrations, update_catalogue
from wodctl.commands.site import Site, pass_site
from wodctl.commands.table import table
from wodctl.errors import StackProblem, UsageProblem, WodError


@click.group()
def notebooks() -> None:
    """Fetch workshops from their repositories, and see which commit is in use."""


@notebooks.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, as `status` does.")
@pass_site
def sync(site: Site, as_json: bool) -> None:
    """Fetch what the repositories have now, and deliver from it from then on.

    A delivery that is under way goes on with what it began. A repository that is away, or has what we refuse,
    leaves the commit in use that is in use; this command then ends with 7 or 8. The service `fetch` does the same
    every WODSYNCMINUTES.

    \b
    Example:
      wodctl notebooks sync
    """
    repositories = _repositories(site)
    first_problem: WodError | None = None
    for kind in repositories.kinds():
        try:
            is_new = repositories.sync(kind)
        except WodError as problem:
            first_problem = first_problem or problem
            continue
        status = repositories.status(kind)
        if not as_json:
            click.echo(f"{kind}: {_short(status)} is {'now' if is_new else 'still'} in use.")
            for path in status.submodules:
                click.echo(f"{kind}: the submodule {path} is left out.")
    site.forget_settings()
    if as_json:
        click.echo(json.dumps(documents(map(repositories.status, repositories.kinds())), indent=1))
    else:
        click.echo(f"{len(_catalogue(site).names())} workshops can be delivered.")
    if serves_registrations(site.settings):
        with contextlib.suppress(StackProblem):  # where it does not run, `up` does it
            update_catalogue(site)
    if "private" in repositories.kinds() and _settings_changed(site):
        click.echo("Settings of the private repository have changed: `wodctl up` takes them over.", err=True)
    if first_problem:
        used = [status for status in map(repositories.status, repositories.kinds()) if status.problem]
        kept = ", ".join(f"{status.kind} {_short(status)}" for status in used if status.commit)
        raise type(first_problem)(
            f"{first_problem.message} {f'Still in use: {kept}.' if kept else 'Nothing is there to deliver from.'}",
            hint=first_problem.hint,
        )


@notebooks.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@click.pass_context
def status(context: click.Context, as_json: bool) -> None:
    """Show for each repository the commit in use, and what hindered the last fetch; exit code 0 if nothing did.

    \b
    Example:
      wodctl notebooks status
    """
    repositories = _repositories(context.obj)
    found = [repositories.status(kind) for kind in repositories.kinds()]
    if as_json:
        click.echo(json.dumps(documents(found), indent=1))
    else:
        rows = [
            (one.kind, one.commit[:12] if one.commit else "-", one.fetched or "-", one.checked or "-",
             one.url, one.problem or "")
            for one in found
        ]  # fmt: skip
        click.echo(table(("REPOSITORY", "COMMIT", "SINCE", "LAST LOOKED", "FROM", "PROBLEM"), rows))
    context.exit(max(one.code for one in found))


def ensure_fetched(site: Site) -> None:
    """Fetch the repositories that nothing was fetched of yet: without them a site has no workshops.

    Raises Unavailable or ContentProblem if that cannot be done.
    """
    repositories = Repositories.of(site.root, site.state, site.settings)
    for kind in repositories.kinds():
        if repositories.status(kind).commit is None:
            click.echo(f"Fetching the {kind} repository …")
            repositories.sync(kind)
    site.forget_settings()


def _repositories(site: Site) -> Repositories:
    found = Repositories.of(site.root, site.state, site.settings)
    if not found.kinds():
        raise UsageProblem(
            "No repository is configured: workshops come from folders of this host.",
            hint="Set WODNOBOREPO or WODPRIVREPO; conf/defaults.yml describes them.",
        )
    return found


def documents(found: Iterable[Status]) -> list[dict[str, object]]:
    """Repositories as scripts read them."""
    return [{key: value for key, value in asdict(one).items() if key != "code"} for one in found]


def _short(status: Status) -> str:
    return f"{status.commit[:12] if status.commit else 'nothing'} ({status.branch or 'default branch'})"


def _settings_changed(site: Site) -> bool:
    """Whether `up` would render other settings than the services have."""
    return StateDirectory(site.state, site.root).has_other_settings(site.settings)


def _catalogue(site: Site) -> Catalogue:
    return site.workshops.catalogue()
