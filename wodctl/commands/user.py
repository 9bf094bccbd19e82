"""`wodctl user`: the accounts of the registration API."""

import json
import secrets

import click

from wodctl.adapters.api_db import ApiDb
from wodctl.commands.site import Site, pass_site
from wodctl.commands.table import table


@click.group()
def user() -> None:
    """Accounts of the registration API on this host: portals, backends, operators."""


@user.command()
@click.argument("name")
@click.option("--role", "roles", multiple=True, type=click.Choice(["user", "moderator", "admin"]), default=["user"],
              show_default=True, help="May be given several times.")  # fmt: skip
@click.option(
    "--email", help="The user's address; with the role `user` he sees the registrations of this address."
)
@pass_site
def add(site: Site, name: str, roles: tuple[str, ...], email: str | None) -> None:
    """Make the account NAME, and print its password, which is stored nowhere else.

    \b
    Example:
      wodctl user add second-backend --role moderator
    """
    password = secrets.token_urlsafe(18)
    ApiDb(site.engine).ask("add-user", username=name, password=password, roles=list(roles), email=email)
    click.echo(f"The password of {name} ({', '.join(roles)}):", err=True)
    click.echo(password)


@user.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@pass_site
def list_(site: Site, as_json: bool) -> None:
    """List the accounts with their roles.

    \b
    Example:
      wodctl user list
    """
    found = ApiDb(site.engine).ask("users")
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    rows = [(one["username"], ", ".join(one["roles"]), one["email"] or "-") for one in found]
    click.echo(table(("NAME", "ROLES", "E-MAIL"), rows))
