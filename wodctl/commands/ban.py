"""`wodctl ban`: who is kept out of this host's ports."""

import json
from ipaddress import AddressValueError, IPv4Address, ip_network
from typing import Any

import click

from wodctl.adapters.bans import Bans
from wodctl.adapters.state import never_banned
from wodctl.commands.site import Site, pass_site
from wodctl.commands.table import table
from wodctl.errors import UsageProblem


class Address(click.ParamType):
    """An IPv4 address: the ports of the stack are open on no other."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> IPv4Address:
        """Return the address."""
        try:
            return IPv4Address(value)
        except AddressValueError:
            self.fail(f"{value!r} is not an IPv4 address.", param, ctx)


@click.group()
def ban() -> None:
    """Addresses that are refused at every port of the stack: who hammers login or action port, or whom you name."""


@ban.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@pass_site
def list_(site: Site, as_json: bool) -> None:
    """List who is banned, by whom (login, mail, operator), and until when.

    \b
    Example:
      wodctl ban list
    """
    bans = Bans(site.state, site.engine).all()
    if as_json:
        documents = [vars(one) | {"until": one.until.isoformat() if one.until else None} for one in bans]
        click.echo(json.dumps(documents, indent=1))
        return
    rows = [
        (one.address, one.jail, one.until.astimezone().strftime("%m-%d %H:%M:%S") if one.until else "removed")
        for one in bans
    ]
    click.echo(table(("ADDRESS", "BY", "UNTIL"), rows) if rows else "Nobody is banned.")


@ban.command()
@click.argument("address", type=Address())
@pass_site
def add(site: Site, address: IPv4Address) -> None:
    """Ban ADDRESS until it is removed: within seconds it is refused, connections that it has as well.

    \b
    Example:
      wodctl ban add 203.0.113.7
    """
    bans = Bans(site.state, site.engine)
    spared = [network for network in never_banned(site.settings) if address in ip_network(network)]
    if spared or bans.is_own(address):
        raise UsageProblem(
            f"{address} is never banned: it is "
            + (f"in {spared[0]}, a portal, a proxy or trusted." if spared else "this host's own."),
            hint="WODPOSTNETWORKS, WODTRUSTEDPROXIES and WODBANNEVER say who is spared." if spared else "",
        )
    bans.add(address)
    click.echo(f"{address} is banned until `wodctl ban remove {address}`.")


@ban.command()
@click.argument("address", type=Address())
@pass_site
def remove(site: Site, address: IPv4Address) -> None:
    """Take every ban of ADDRESS back.

    \b
    Example:
      wodctl ban remove 203.0.113.7
    """
    bans = Bans(site.state, site.engine)
    if str(address) not in [one.address for one in bans.all()]:
        raise UsageProblem(f"{address} is not banned.", hint="`wodctl ban list` tells who is.")
    bans.remove(address)
    click.echo(f"{address} is not banned any more.")
