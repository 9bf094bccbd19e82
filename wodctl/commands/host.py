"""`wodctl host`: what of ours is on this host outside of containers, and what this host is."""

import ipaddress
import json
import os
from pathlib import Path
from typing import Any

import click

from wodctl.adapters import ansible
from wodctl.adapters import host as this_host
from wodctl.adapters.state import mail_networks
from wodctl.commands.site import Site, pass_site
from wodctl.commands.table import table
from wodctl.errors import UsageProblem
from wodctl.model.settings import Settings


@click.group()
def host() -> None:
    """Harden this host by a small Ansible role, take that back, or see what the host is."""


@host.command()
@click.option("--check", is_flag=True, help="Change nothing; tell what would change.")
@pass_site
def apply(site: Site, check: bool) -> None:
    """Bring this host into the state that a backend needs: limits, kernel, firewall, updates, engine, timers.

    What it does, and how each change is taken back, is in ansible-host/README.md. Running containers stay. Run
    again, it repairs what has changed and leaves the rest alone.

    \b
    Examples:
      wodctl host apply --check
      wodctl host apply
    """
    _need_root()
    ansible.run_playbook(_folder(site) / "playbook.yml", _variables(site), check=check)


@host.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_site
def revert(site: Site, yes: bool) -> None:
    """Take back what `host apply` did: this host is as it was before the first one.

    \b
    Example:
      wodctl host revert
    """
    _need_root()
    if not yes:
        click.confirm(
            "Open the firewall again, remove limits, timers and the administrator's account?", abort=True
        )
    ansible.run_playbook(_folder(site) / "revert.yml", _variables(site))


@host.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@pass_site
def facts(site: Site, as_json: bool) -> None:
    """Show what this host is, and what of ours works on it.

    \b
    Example:
      wodctl host facts
    """
    found = this_host.facts(site.state)
    able = this_host.abilities(found)
    if as_json:
        can = {what: {"possible": whether, "because": why} for what, whether, why in able}
        click.echo(json.dumps(found | {"abilities": can}, indent=1))
        return
    engine, disk = found["engine"], found["state"]
    rows = [
        ("distribution", found["distribution"] or "unknown"),
        ("kernel", f"{found['kernel']}, control groups version {found['cgroups']}"),
        ("security module", found["security_module"] or "none"),
        ("processors, memory", f"{found['processors']}, {found['memory_bytes'] / 2**30:.1f} GiB"),
        ("init", found["init"]),
        ("engine", f"{engine['version']} on {engine['storage']}, {engine['data']}" if engine else "none"),
        ("state directory", f"{site.state}: {disk['type']}, {disk['free_bytes'] / 2**30:.0f} GiB free"),
        ("firewall", found["firewall"] or "none that we know"),
        ("role", "applied" if found["role_applied"] else "not applied"),
    ]
    click.echo(table(("THIS HOST", ""), rows))
    click.echo()
    click.echo(
        table(("IT CAN", "", "BECAUSE"), [(what, "yes" if can else "no", why) for what, can, why in able])
    )


def _folder(site: Site) -> Path:
    return site.root / "ansible-host"


def _need_root() -> None:
    if os.geteuid() != 0:
        raise UsageProblem("The host's settings are root's.", hint="Run it as root, or with sudo.")


def _variables(site: Site) -> dict[str, Any]:
    """What the role is told; roles/wod_host/meta/argument_specs.yml describes each."""
    settings = site.settings
    return {
        "wod_host_checkout": str(site.root),
        "wod_host_state": str(site.state),
        "wod_host_project": site.project,
        "wod_host_administrator": settings.WODUSER,
        "wod_host_name": settings.WODBEEXTFQDN if _is_a_name(settings.WODBEEXTFQDN) else "",
        "wod_host_firewall": settings.WODHOSTFIREWALL,
        "wod_host_ports": settings.WODHOSTPORTS,
        "wod_host_published": published_ports(settings),
    }


def published_ports(settings: Settings) -> list[dict[str, Any]]:
    """The ports of the stack and who may reach them; an empty list of networks means everybody."""
    found: list[dict[str, Any]] = []
    if settings.WODTYPE != "api-db":
        found += [
            {"port": str(settings.WODBEPORT), "networks": []},
            {"port": str(settings.WODPOSTPORT), "networks": mail_networks(settings)},
        ]
        found += [{"port": settings.WODPORTPOOL, "networks": []}] if settings.WODPORTPOOL else []
    if settings.serves_api:
        found.append({"port": str(settings.WODAPIDBPORT), "networks": []})
    if settings.WODTLS != "off" and settings.WODHTTPPORT:
        found.append({"port": str(settings.WODHTTPPORT), "networks": []})
    return found


def _is_a_name(address: str) -> bool:
    """Whether an address is a name that /etc/hosts may give to this host, and no number or the local host."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return "." in address and address != "localhost"
    return False
