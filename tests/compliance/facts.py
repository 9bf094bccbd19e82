"""What runs, asked of the engine once for all checks, and what should run, read from where it is written down."""

import ipaddress
import json
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from wodctl.adapters.definitions import Definitions
from wodctl.adapters.engine import inspect_containers
from wodctl.model.appliance import NAME_LABEL, SeatPlan, documents, read_definition
from wodctl.model.seat import user_name
from wodctl.model.settings import Settings, size_in_bytes

SEAT_SHARES = 16
NO_NEW_PRIVILEGES = "no-new-privileges:true"

Mount = tuple[str, str, str, bool]
"""Type, source, target, whether it may be written."""


@dataclass(frozen=True)
class Expected:
    """What a container must be, neither less nor more; `mounts` None: whatever its kind is given for each job."""

    images: frozenset[str]
    user: str
    memory: int
    pids: int
    shares: int
    quota: int
    capabilities: frozenset[str]
    options: frozenset[str]
    mounts: frozenset[Mount] | None
    ports: frozenset[tuple[str, int]]
    networks: frozenset[str]
    devices: frozenset[str] = frozenset()
    host_network: bool = False
    read_only: bool = True


@dataclass(frozen=True)
class Container:
    """A container as the engine inspects it, and what it should be; None for one that should not be there."""

    inspected: dict[str, Any]
    expected: Expected | None

    @property
    def name(self) -> str:
        return str(self.inspected["Name"]).lstrip("/")

    @property
    def host(self) -> dict[str, Any]:
        """Its HostConfig."""
        return dict(self.inspected["HostConfig"])

    @property
    def user(self) -> str:
        return str(self.inspected["Config"]["User"])

    @property
    def mounts(self) -> frozenset[Mount]:
        return frozenset(
            (
                mount["Type"],
                mount.get("Name") or mount["Source"] if mount["Type"] == "volume" else mount["Source"],
                mount["Destination"],
                mount["RW"],
            )
            for mount in self.inspected["Mounts"]
        )

    @property
    def ports(self) -> frozenset[tuple[str, int]]:
        """Addresses and ports of the host that lead to it."""
        bindings = (self.host["PortBindings"] or {}).values()
        return frozenset(
            (one["HostIp"], int(one["HostPort"] or 0)) for found in bindings for one in found or []
        )

    @property
    def networks(self) -> frozenset[str]:
        if ":" in self.host["NetworkMode"]:
            return frozenset()
        return frozenset(self.inspected["NetworkSettings"]["Networks"]) - {"none", "host"}

    @property
    def capabilities(self) -> frozenset[str]:
        return frozenset(name.removeprefix("CAP_") for name in self.host["CapAdd"] or [])


@dataclass(frozen=True)
class Group:
    """Containers that the report has one line for: a service, or all servers of seats, all appliances, all jobs."""

    name: str
    containers: tuple[Container, ...]

    def __str__(self) -> str:
        return self.name

    def offenders(self, wrong: Callable[[Container, Expected], object]) -> str:
        """Those of which something is wrong, each with what it is; nothing if all is well."""
        found = [(one, wrong(one, one.expected)) for one in self.containers if one.expected is not None]
        said = [
            str(what) if len(self.containers) == 1 else f"{one.name}: {what}" for one, what in found if what
        ]
        return "; ".join(said)


class Facts:
    """The stack `project` with the state directory `state`, of the checkout `root`; asked when first needed, and once.

    `files` are those of compose/, `services` those that this host should have.
    """

    def __init__(
        self,
        root: Path,
        state: Path,
        project: str,
        settings: Settings,
        files: Sequence[str],
        services: Sequence[str],
    ) -> None:
        self.root, self.state, self.project = root, state, project
        self.settings, self.files, self.services = settings, tuple(files), tuple(services)
        self._pool = ThreadPoolExecutor(16, thread_name_prefix="check")

    def close(self) -> None:
        """Wait for what still runs."""
        self._pool.shutdown(cancel_futures=True)

    def begin(self, work: Callable[..., Any], *words: Any) -> "Future[Any]":
        """Do something beside the checks."""
        return self._pool.submit(work, *words)

    def inside(self, service: str, *words: str) -> str:
        """What a program in the container of a service prints; without such a service here no check applies."""
        if service not in self.services:
            pytest.skip(f"this host has no service {service}")
        return run("docker", "exec", f"{self.project}-{service}-1", *words)

    def rows(self, query: str) -> list[str]:
        """The first column of a query's answer, as the owner of the database."""
        said = self.inside("db", "psql", "-X", "-At", "-U", "postgres", "-d", "wod", "-c", query)
        return [line for line in said.splitlines() if line]

    def packet_rules(self, chain: str) -> list[str]:
        """The rules of a chain of the host's packet filter, in order, in the variant that the engine uses."""
        for variant in ("nft", "legacy"):
            try:
                rules = self.inside("firewall", f"iptables-{variant}", "-w", "-S", chain).splitlines()
            except AssertionError:
                continue
            if any(rule.startswith(f"-A {chain}") for rule in rules):
                return rules
        return []

    # --- What should be ---

    @cached_property
    def environment(self) -> dict[str, str]:
        """The variables of compose/stack.yml, as the last `up` wrote them."""
        lines = (self.state / "rendered" / "compose.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    @cached_property
    def stack(self) -> dict[str, Any]:
        """compose/stack.yml with the site's values in it, as Compose understands it."""
        words = ["docker", "compose", "-p", self.project]
        words += [f"--file={self.root / 'compose' / name}" for name in self.files]
        words += ["--env-file", str(self.state / "rendered" / "compose.env"), "--profile", "api-db"]
        return dict(json.loads(run(*words, "config", "--format", "json")))

    @property
    def plan(self) -> SeatPlan:
        """Addresses of seats and appliances."""
        s = self.settings
        network = ipaddress.IPv4Network(self.environment["WOD_SEAT_SUBNET"])
        return SeatPlan(self.project, network, s.WODUSERMIN, s.WODUSERMAX, s.UIDBASE, s.GIDBASE)

    def _of_service(self, name: str) -> Expected:
        wanted = self.stack["services"][name]
        volumes = {key: found["name"] for key, found in self.stack["volumes"].items()}
        mounts = [
            (
                one["type"],
                volumes[one["source"]] if one["type"] == "volume" else one["source"],
                one["target"],
                not one.get("read_only", False),
            )
            for one in wanted.get("volumes", [])
        ]
        mounts += [
            ("bind", self.stack["secrets"][one["source"]]["file"], f"/run/secrets/{one['target']}", False)
            for one in wanted.get("secrets", [])
        ]
        networks = self.stack["networks"]
        return Expected(
            images=frozenset({wanted["image"]}),
            user=wanted.get("user") or self.images.get(wanted["image"], {}).get("Config", {}).get("User", ""),
            memory=int(wanted["mem_limit"]),
            pids=wanted["pids_limit"],
            shares=wanted.get("cpu_shares", 0),
            quota=round(float(wanted.get("cpus", 0)) * 100_000),
            capabilities=frozenset(wanted.get("cap_add", [])),
            options=frozenset(wanted["security_opt"]),
            mounts=frozenset(mounts),
            ports=frozenset((one["host_ip"], int(one["published"])) for one in wanted.get("ports", [])),
            networks=frozenset(networks[one]["name"] for one in wanted.get("networks", {})),
            host_network=wanted.get("network_mode") == "host",
            read_only=wanted["read_only"],
        )

    def _of_seat(self, number: int) -> Expected:
        s, home = self.settings, f"/student/{user_name(number)}"
        labs = {word.split("=")[1] for word in self.environment["WOD_LABS"].split()}
        return Expected(
            images=frozenset(labs),
            user=f"{s.UIDBASE + number}:{s.GIDBASE + number}",
            memory=size_in_bytes(s.WODSEATMEMORY),
            pids=s.WODSEATPIDS,
            shares=SEAT_SHARES,
            quota=round(s.WODSEATCPUS * 100_000),
            capabilities=frozenset(),
            options=frozenset({NO_NEW_PRIVILEGES}),
            mounts=frozenset({("bind", f"{self.state}/data/students/{user_name(number)}", home, True)}),
            ports=frozenset(),
            networks=frozenset({f"{self.project}_seats"}),
        )

    def _of_job(self, container: dict[str, Any], number: int) -> Expected:
        """A script or an export, whose shape the gate judges at each start; here it is its kind's."""
        seat, host = self._of_seat(number), container["HostConfig"]
        own = {self.environment["WOD_IMAGE_COMPILER"], self.environment["WOD_IMAGE_EXPORT"]}
        return Expected(
            images=seat.images | own,
            user=seat.user,
            memory=min(host["Memory"] or 2**63, 2**31),
            pids=min(host["PidsLimit"] or 2**31, self.settings.WODSEATPIDS),
            shares=SEAT_SHARES,
            quota=min(host["CpuQuota"] or 2**31, seat.quota),
            capabilities=seat.capabilities,
            options=seat.options,
            mounts=None,
            ports=frozenset(),
            networks=frozenset() if host["NetworkMode"] == "none" else seat.networks,
        )

    def _of_appliance(self, container: dict[str, Any], number: int) -> Expected | None:
        """What the definition of the appliance makes of it for this seat."""
        labels, name = container["Config"]["Labels"], container["Name"].lstrip("/")
        rendered = self.state / "rendered" / "appliances"
        definition = read_definition(rendered, labels.get(NAME_LABEL, ""))
        if definition is None:
            return None
        document = dict(documents(definition, number, self.plan)).get(name)
        if document is None:
            return None
        host = document["HostConfig"]
        bindings = [one for found in host.get("PortBindings", {}).values() for one in found]
        return Expected(
            # One that was started of a former definition stays until its lease ends.
            images=frozenset({document["Image"], *Definitions(self.state).superseded()}),
            user=document.get("User", ""),
            memory=host["Memory"],
            pids=host["PidsLimit"],
            shares=host.get("CpuShares", 0),
            quota=host.get("CpuQuota", 0) or host.get("NanoCpus", 0) // 10_000,
            capabilities=frozenset(host["CapAdd"]),
            options=frozenset(host["SecurityOpt"]),
            mounts=None,
            ports=frozenset((one["HostIp"], int(one["HostPort"])) for one in bindings),
            networks=frozenset({f"{self.project}_seats"} if ":" not in host["NetworkMode"] else ()),
            devices=frozenset(device["PathOnHost"] for device in host["Devices"]),
            read_only=host.get("ReadonlyRootfs", False),
        )

    # --- What is ---

    @cached_property
    def containers(self) -> list[dict[str, Any]]:
        """All containers of this stack, as the engine inspects them."""
        found = inspect_containers(f"label=com.docker.compose.project={self.project}")
        return found + inspect_containers(f"label=wod.project={self.project}")

    @cached_property
    def groups(self) -> list[Group]:
        """The containers, by service and kind; a service that has none is a group of none."""
        kinds: dict[str, list[Container]] = {name: [] for name in self.services}
        for one in self.containers:
            labels = one["Config"]["Labels"]
            service = labels.get("com.docker.compose.service")
            if service:
                if labels.get("com.docker.compose.oneoff") == "True":
                    continue
                known = service in self.services and service in self.stack["services"]
                kinds.setdefault(service, []).append(
                    Container(one, self._of_service(service) if known else None)
                )
            elif "wod.seat" in labels:
                kinds.setdefault("seats", []).append(Container(one, self._of_seat(int(labels["wod.seat"]))))
            elif {"wod.appliance", "wod.companion"} & set(labels):
                number = int(labels.get("wod.appliance") or labels["wod.companion"])
                kinds.setdefault("appliances", []).append(Container(one, self._of_appliance(one, number)))
            elif {"wod.script", "wod.export"} & set(labels):
                number = int(labels.get("wod.script") or labels["wod.export"])
                kinds.setdefault("jobs", []).append(Container(one, self._of_job(one, number)))
            elif "wod.probe" not in labels:
                kinds.setdefault("others", []).append(Container(one, None))
        return [Group(name, tuple(found)) for name, found in sorted(kinds.items())]

    @cached_property
    def images(self) -> dict[str, dict[str, Any]]:
        """The images of the services, by tag, as the engine inspects them."""
        tags = sorted({self.stack["services"][name]["image"] for name in self.services})
        found = json.loads(run("docker", "image", "inspect", *tags))
        return dict(zip(tags, found, strict=True))

    @cached_property
    def networks(self) -> dict[str, dict[str, Any]]:
        """The engine's networks by name, as it inspects them."""
        ids = run("docker", "network", "ls", "--quiet").split()
        return {one["Name"]: one for one in json.loads(run("docker", "network", "inspect", *ids))}

    @cached_property
    def engine(self) -> dict[str, Any]:
        """What the engine says of itself."""
        return dict(json.loads(run("docker", "info", "--format", "{{json .}}")))


def run(*words: str) -> str:
    """What a program prints. Raises AssertionError, so that the check fails that asked."""
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=30, check=False)
    if done.returncode != 0:
        raise AssertionError(
            f"`{' '.join(words[:5])}` ended with {done.returncode}: {done.stderr.strip()[-500:]}"
        )
    return done.stdout
