"""`wodctl build-appliance`, `appliance`, `images`: what workshops have beside the notebook."""

import ipaddress
import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from wodctl.adapters.appliance_folder import ApplianceFolder
from wodctl.adapters.appliances import APPLIANCES_ELSEWHERE, Appliances, Elsewhere
from wodctl.adapters.containers import Containers
from wodctl.adapters.definitions import Definitions
from wodctl.adapters.docker_hosts import reached
from wodctl.adapters.engine import images_of_ours, remove_image
from wodctl.adapters.machines import address_of
from wodctl.adapters.trial import Trial
from wodctl.commands.image import ensure_built
from wodctl.commands.site import Site, pass_site
from wodctl.commands.table import table
from wodctl.errors import ConfigProblem, ContentProblem, EngineProblem, UsageProblem, WodError
from wodctl.model.appliance import (
    Definition,
    DefinitionProblem,
    SeatPlan,
    documents,
    network_elsewhere,
    read_definition,
)
from wodctl.model.docker_host import DockerHost, hosts_of
from wodctl.model.manifest import plain_name
from wodctl.model.ports import Pool
from wodctl.model.settings import port_range

ENGINE_SOCKET = Path("/var/run/docker.sock")


@click.command("build-appliance")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="All that have a folder.")
@pass_site
def build_appliance(site: Site, names: tuple[str, ...], everything: bool) -> None:
    """Build appliances, try each as a student would, and make it the current one.

    What is unchanged costs nothing. Where anything fails, the former one stays current, and nothing of the
    new one remains.

    \b
    Example:
      wodctl build-appliance Spark101
    """
    folders = site.builder.appliance_folders()
    wanted = list(folders) if everything else [plain_name(name) for name in names]
    if not wanted:
        raise UsageProblem(
            "Which one?", hint=f"Give names, or --all. There are: {', '.join(folders) or 'none'}."
        )
    for name in wanted:
        folder_of(site, name)
    site.engine.ensure_answers()
    failed: list[WodError] = []
    for name in wanted:
        try:
            ensure_current(site, name, folders[name])
        except WodError as error:
            if len(wanted) == 1:
                raise
            click.secho(f"{name}: {error.message}", fg="red", err=True)
            failed.append(error)
    if (site.state / "rendered" / "compose.env").exists():
        render_reach(site)
    if failed:
        raise ContentProblem(f"{len(failed)} of {len(wanted)} could not be built.")


def folder_of(site: Site, name: str) -> Path:
    """The folder of the appliance of that name. Raises UsageProblem if there is none."""
    folders = site.builder.appliance_folders()
    if name not in folders:
        raise UsageProblem(
            f"There is no appliance {name!r}: no folder images/appliances/{name} with an appliance.yml.",
            hint=f"There are: {', '.join(folders) or 'none'}. docs/appliances.md tells how to make one.",
        )
    return folders[name]


def ensure_current(site: Site, name: str, folder: Path) -> None:
    """Build and try the appliance unless what its folder says is current already. Raises WodError."""
    definitions, builder = _definitions(site), site.builder
    read = ApplianceFolder(folder, site.root / "compose" / "appliance.yml")
    images = builder.appliance_images(folder)
    definition = read.definition(images, site.settings.WODAPPLIANCEPRIVILEGES)
    try:
        former = definitions.get(name)
    except DefinitionProblem:
        former = None
    present = {image["Tag"] for image in images_of_ours()}
    definitions.ports_with(definition, site.settings.site_variables, _pool(site))
    if former == definition and set(definition.images) <= present:
        render_appliances(site)
        _deliver(site, definition)
        click.echo(f"{name} is up to date.")
        return
    kept = present | set(former.images if former else ())
    try:
        if not set(definition.images) <= present:
            click.echo(f"Building {name} …")
            builder.build_appliance(folder)
        ensure_built(site, ["lab"])
        click.echo(f"Trying {name} …")
        guest = site.builder.tag("lab")
        seconds = Trial(ENGINE_SOCKET, plan_of(site, "10.0.0.0/8"), guest, site.engine.free_network(28)).run(
            definition
        )
        _deliver(site, definition)
    except BaseException:
        for image in set(definition.images) - kept:
            remove_image(image)
        raise
    definitions.keep(definition, former)
    render_appliances(site)
    # Seats that have the former one keep it; its image goes when nobody has it any more.
    superseded = definitions.superseded()
    left = {tag for tag in superseded if not remove_image(tag)}
    for host in _hosts_of(site, name):
        with suppress(EngineProblem), reached(host, site.state) as there:
            left |= set(there.remove_images(superseded))
    definitions.note_superseded(left)
    click.echo(f"{name} is current: healthy after {seconds:.1f} s, and a student has signed in.")


def render_appliances(site: Site) -> None:
    """Give the services what is current, with the site's ports."""
    base = site.state / "rendered" / "appliances"
    base.mkdir(parents=True, exist_ok=True)
    _definitions(site).render(site.builder.appliance_folders(), site.settings.site_variables, _pool(site))


def render_reach(site: Site) -> None:
    """Tell the firewall which seat reaches what on other Docker hosts. Raises ConfigProblem for one without address."""
    hosts = {}
    for host in site.settings.docker_hosts:
        try:
            address = socket.gethostbyname(host.name)
        except OSError:
            raise ConfigProblem(
                f"The name {host.name} (WODAPPLIANCEHOSTS) cannot be resolved.",
                hint="Correct it, or give the address of the host.",
            ) from None
        hosts[address] = [
            one.name for one in Definitions(site.state).all() if host in _hosts_of(site, one.name)
        ]
    Definitions(site.state).render_reach(hosts, plan_of(site, _seat_network(site)))


def deliver_elsewhere(site: Site) -> None:
    """Every appliance that lives on another Docker host is there; one sentence for a host that is away."""
    for definition in Definitions(site.state).all():
        try:
            _deliver(site, definition)
        except EngineProblem as error:
            click.secho(f"{definition.name} was not delivered. {error.message}", fg="red", err=True)


def remove_elsewhere(site: Site) -> None:
    """No other Docker host has anything of this project any more; one sentence for a host that is away."""
    for host in site.settings.docker_hosts:
        try:
            with reached(host, site.state) as there:
                there.remove_all(site.project)
        except EngineProblem as error:
            click.secho(f"What is there stays there. {error.message}", fg="red", err=True)


def _deliver(site: Site, definition: Definition) -> None:
    """The hosts that it lives on have its images and a network for it. Raises EngineProblem."""
    for host in _hosts_of(site, definition.name):
        with reached(host, site.state) as there:
            there.ensure_network(network_elsewhere(site.project), site.project)
            for tag in definition.images:
                if there.ensure_image(tag):
                    click.echo(f"{definition.name} was delivered to {host.name}.")


def _hosts_of(site: Site, name: str) -> Sequence[DockerHost]:
    """The other Docker hosts that the appliance of that name lives on."""
    return hosts_of(site.settings.site_variables.get(f"IP-WKSHP-{name}"), site.settings.docker_hosts)


def _definitions(site: Site) -> Definitions:
    known = {*site.builder.appliance_folders(), *(one.name for one in Definitions(site.state).all())}
    return Definitions(site.state, [name for name in known if _hosts_of(site, name)])


@click.group()
def images() -> None:
    """What was built."""


@images.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@pass_site
def images_list(site: Site, as_json: bool) -> None:
    """Show the images of stack and appliances: age, size, digest, and who uses each.

    \b
    Example:
      wodctl images list
    """
    site.engine.ensure_answers()
    current = {tag: f"appliance {d.name}" for d in Definitions(site.state).all() for tag in d.images}
    rows = []
    for image in images_of_ours():
        users = [*([current[image["Tag"]]] if image["Tag"] in current else []), *image["Containers"]]
        rows.append(
            {"image": image["Tag"], "digest": image["Id"], "size_bytes": image["Size"], "created": image["Created"],
             "current": image["Tag"] in current, "used_by": users}
        )  # fmt: skip
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    now = datetime.now(timezone.utc)
    shown = [
        [
            row["image"],
            row["digest"].removeprefix("sha256:")[:12],
            _age(now - datetime.fromisoformat(row["created"])),
            f"{row['size_bytes'] / 1e6:.0f} MB",
            ", ".join(row["used_by"][:3]) + (", …" if len(row["used_by"]) > 3 else ""),
        ]
        for row in rows
    ]
    click.echo(table(["IMAGE", "DIGEST", "AGE", "SIZE", "USED BY"], shown))


@click.group()
def appliance() -> None:
    """What seats have beside their servers."""


@appliance.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@pass_site
def list_appliances(site: Site, as_json: bool) -> None:
    """Show the appliances that run: whose, where, how they are.

    \b
    Example:
      wodctl appliance list
    """
    rows = _rows(site)
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    shown = [[f"student{r['seat']}", r["name"], r["where"], r["state"], r["health"]] for r in rows]
    click.echo(table(["SEAT", "APPLIANCE", "WHERE", "STATE", "HEALTH"], shown))


@appliance.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@pass_site
def show(site: Site, name: str, as_json: bool) -> None:
    """Show what an appliance is: ports, values, privileges with their reasons, limits.

    \b
    Example:
      wodctl appliance show Spark101
    """
    definition = _definition(site, name)
    plan = plan_of(site, "10.0.0.0/8")
    containers = [document for _, document in documents(definition, plan.first_seat, plan)]
    found = {
        "name": definition.name,
        "title": definition.title,
        "where": ", ".join(host.name for host in _hosts_of(site, definition.name)) or "this host",
        "images": definition.images,
        "memory_bytes": sum(container["HostConfig"]["Memory"] for container in containers),
        "ports": {name: vars(port) for name, port in definition.ports.items()},
        "first_ports": definition.bases,
        "values": dict(definition.values),
        "privileges": dict(definition.privileges),
    }
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    click.echo(f"{definition.name}: {definition.title}\n  image      {', '.join(definition.images)}")
    for port, what in definition.ports.items():
        ways = [f"page ({what.web})"] if what.web else []
        ways += [f"{what.publish} from {definition.bases.get(what.publish)}"] if what.publish else []
        click.echo(f"  port       {port}: {what.number or 'as published'} {', '.join(ways)}")
    for value, how in definition.values.items():
        click.echo(f"  value      {value}: {' '.join(map(str, how.values()))}")
    for privilege, reason in definition.privileges.items():
        click.echo(f"  privilege  {privilege}: {reason}")


@appliance.command("create")
@click.argument("name")
@click.option("--student", "seat", type=int, required=True, metavar="N", help="Number of the seat.")
@pass_site
def create(site: Site, name: str, seat: int) -> None:
    """Give a seat an appliance by hand, in place of any that it has, and print what a notebook would know.

    The seat must have a home: its key opens the appliance. The next CREATE or CLEANUP of the seat takes it away.

    \b
    Example:
      wodctl appliance create Spark101 --student 3
    """
    definition = _definition(site, name)
    key = _public_key(site, seat)
    host = _host_of_seat(site, definition, seat)
    with _appliances(site, seat, host) as made:
        prepared = made.prepare(definition, seat, host)
        began = time.monotonic()
        made.start(prepared, key)
    click.echo(f"{definition.name} of student{seat} is ready after {time.monotonic() - began:.1f} s.")
    for value, text in prepared.values.items():
        click.echo(f"  {value}={text}")


@appliance.command("remove")
@click.option(
    "--student", "seats", type=int, required=True, multiple=True, metavar="N", help="Number of the seat."
)
@pass_site
def remove(site: Site, seats: tuple[int, ...]) -> None:
    """Take the appliance of a seat away, with all that is in it.

    \b
    Example:
      wodctl appliance remove --student 3
    """
    for seat in seats:
        _check_seat(site, seat)
        with _appliances(site, seat) as made:
            made.ensure_absent(seat)
        click.echo(f"student{seat} has no appliance.")


def appliances_by_seat(site: Site) -> dict[int, list[dict[str, Any]]]:
    """What `appliance list` shows, by seat."""
    found: dict[int, list[dict[str, Any]]] = {}
    for row in _rows(site):
        found.setdefault(row["seat"], []).append(row)
    return found


def _rows(site: Site) -> list[dict[str, Any]]:
    """A row for each appliance, on this host and on others; one sentence for a host that is away."""
    rows = [_row(container, "this host") for container in site.engine.appliances()]
    for host in site.settings.docker_hosts:
        try:
            with reached(host, site.state) as there:
                found = there.appliances(site.project)
        except EngineProblem as error:
            click.secho(error.message, fg="red", err=True)
            continue
        rows += [_row(one, host.name) for one in found if "wod.appliance" in one["Config"]["Labels"]]
    return rows


def _row(container: dict[str, Any], where: str) -> dict[str, Any]:
    labels, state = container["Config"]["Labels"], container["State"]
    return {
        "seat": int(labels["wod.appliance"]),
        "name": labels["wod.appliance.name"],
        "where": where,
        "state": state["Status"],
        "health": state.get("Health", {}).get("Status", "none"),
        "image": container["Config"]["Image"],
    }


def _definition(site: Site, name: str) -> Definition:
    plain = plain_name(name)
    rendered = site.state / "rendered" / "appliances"
    found = read_definition(rendered, plain)
    if found is None:
        raise UsageProblem(
            f"The appliance {plain} is not built.", hint=f"`wodctl build-appliance {plain}` builds it."
        )
    return found


def _seat_network(site: Site) -> str:
    """The seats' network, as the last `up` made it."""
    environment = (site.state / "rendered" / "compose.env").read_text()
    return environment.partition("WOD_SEAT_SUBNET=")[2].split("\n")[0]


def _public_key(site: Site, seat: int) -> bytes:
    """The seat's own key. The home is its participant's: no link is followed there."""
    _check_seat(site, seat)
    folder = -1
    try:
        for part in (str(site.state / "data" / "students" / f"student{seat}"), ".ssh"):
            former, folder = folder, os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW,
                                             dir_fd=folder if folder >= 0 else None)  # fmt: skip
            if former >= 0:
                os.close(former)
        key = os.open("id_rsa.pub", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        with open(key, "rb") as file:
            return file.read(16384)
    except OSError:
        raise UsageProblem(
            f"student{seat} has no home with a key.",
            hint="A CREATE makes it: `wodctl action submit CREATE …`.",
        ) from None
    finally:
        if folder >= 0:
            os.close(folder)


def _check_seat(site: Site, seat: int) -> None:
    s = site.settings
    if not s.WODUSERMIN <= seat <= s.WODUSERMAX:
        raise UsageProblem(f"There is no seat {seat}.", hint=f"They are {s.WODUSERMIN} to {s.WODUSERMAX}.")


def _host_of_seat(site: Site, definition: Definition, seat: int) -> str:
    """The name of the other Docker host that the seat's appliance lives on; empty for this one."""
    if not _hosts_of(site, definition.name):
        return ""
    workshop = site.workshops.workshop(definition.workshop)
    address = address_of(definition.workshop, seat, site.settings.variables, workshop.metadata)
    return next((host.name for host in site.settings.docker_hosts if host.name == address), "")


@contextmanager
def _appliances(site: Site, seat: int, host: str = "") -> Iterator[Appliances]:
    """The appliances as the worker sees them, with the host that a seat's is on, and the one that it is to be on."""
    notes = site.state / "data" / "students" / APPLIANCES_ELSEWHERE
    with ExitStack() as stack:
        try:
            wanted = {host, Elsewhere({}, notes).name(seat)}
        except PermissionError:
            raise UsageProblem("Appliances on other hosts are looked after by root.") from None
        hosts = {
            one.name: stack.enter_context(reached(one, site.state)).containers
            for one in site.settings.docker_hosts
            if one.name in wanted
        }
        yield Appliances(
            Containers(ENGINE_SOCKET),
            site.state / "rendered" / "appliances",
            site.state / "data" / "routes",
            plan_of(site, _seat_network(site)),
            site.url,
            elsewhere=Elsewhere(hosts, notes),
        )


def plan_of(site: Site, network: str) -> SeatPlan:
    """Addresses and users of this site's appliances in that network."""
    s = site.settings
    return SeatPlan(
        site.project, ipaddress.IPv4Network(network), s.WODUSERMIN, s.WODUSERMAX, s.UIDBASE, s.GIDBASE
    )


def _pool(site: Site) -> Pool:
    s = site.settings
    ports = port_range(s.WODPORTPOOL)
    assert ports is not None
    return Pool(ports, s.WODUSERMAX - s.WODUSERMIN + 1, (s.WODBEPORT, s.WODPOSTPORT))


def _age(since: Any) -> str:
    seconds = max(0, int(since.total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
