"""An appliance: what a seat has beside its server, and the containers that it consists of.

A definition is made once, by `wodctl build-appliance`, out of a folder; from then on all that is needed for the
appliance of one seat follows from it and from the plan of the seats: names, address, ports, containers. So worker and
gate come to the same containers independently, and nothing has to be agreed on while a participant waits.

Standard library only: this module is part of the images of worker, hub and gate.
"""

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HANDED_OVER = "/run/wod-appliance"
"""Where a container finds the seat's public key, its own host key and its secrets."""

FIRST_PLACE = 16
"""In a quarter of the seats' network; before it, in the first one, are gateway, hub and proxy.

The quarters are: appliances, nobody, seats, and what is given to other containers. docs/architecture.md says why.
"""

MOST_COMPANIONS = 3

NAME_LABEL = "wod.appliance.name"
"""Label of the containers with the name of the definition."""

_FORM = 1
"""Of the file; another one has to be made anew."""

_HOST_FIELDS = {
    "Mounts", "Tmpfs", "CapDrop", "CapAdd", "SecurityOpt", "Devices", "CgroupnsMode", "IpcMode", "ReadonlyRootfs",
    "Memory", "MemorySwap", "NanoCpus", "CpuShares", "PidsLimit", "RestartPolicy", "LogConfig", "ShmSize", "Ulimits",
    "MaskedPaths", "ReadonlyPaths", "NetworkMode", "PortBindings",
}  # fmt: skip
"""Fields of HostConfig that definitions consist of, and that `privileges` looks at where it matters."""

_PLACEHOLDER = re.compile(r"@(WOD_[A-Z]+)@")


class DefinitionProblem(ValueError):
    """A file is not a definition that this version can read."""


@dataclass(frozen=True)
class Port:
    """A port inside: `number`, or None for the number that it has outside.

    `web` is `keep` or `strip` for what the proxy shows under the participant's login, else empty; `publish` is the
    variable that the number outside is handed over in, empty for a port that is not opened.
    """

    number: int | None
    web: str = ""
    publish: str = ""


@dataclass(frozen=True)
class Definition:
    """An appliance that is built and was tried.

    `containers` are the documents that the engine creates them from, the appliance's own first, then its companions;
    `bases` the number outside of each published port of the first seat. `values`, `login`, `work` and `privileges`
    are as appliance.yml has them; times are seconds.
    """

    name: str
    title: str
    containers: Sequence[Mapping[str, Any]]
    ports: Mapping[str, Port]
    values: Mapping[str, Mapping[str, str]]
    login: Mapping[str, str]
    privileges: Mapping[str, str]
    work: str
    ready_seconds: int
    stop_seconds: int
    bases: Mapping[str, int] = field(default_factory=dict)

    @property
    def host_name(self) -> str:
        """How the seat calls it."""
        return self.name.lower()

    @property
    def workshop(self) -> str:
        """The workshop that it is for."""
        return f"WKSHP-{self.name}"

    @property
    def published(self) -> list[str]:
        """The variables with ports outside, in order."""
        return [port.publish for port in self.ports.values() if port.publish]

    @property
    def outside_names(self) -> list[str]:
        """The variables with the ports outside where it lives on another host: all are opened there."""
        return [outside_name(name, port) for name, port in self.ports.items()]

    @property
    def images(self) -> list[str]:
        """The images of its containers."""
        return [str(container["Image"]) for container in self.containers]

    def to_json(self) -> str:
        """As a file keeps it."""
        return json.dumps({"form": _FORM} | asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Definition":
        """Raises DefinitionProblem."""
        try:
            content = json.loads(text)
            if content.pop("form") != _FORM:
                raise DefinitionProblem("The definition was made by another version.")
            content["ports"] = {name: Port(**port) for name, port in content["ports"].items()}
            return cls(**content)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DefinitionProblem(f"This is no definition of an appliance: {error}") from None


@dataclass(frozen=True)
class SeatPlan:
    """What the appliances of all seats have in common: project, addresses, numbers of users."""

    project: str
    network: ipaddress.IPv4Network
    first_seat: int
    last_seat: int
    uid_base: int
    gid_base: int

    def seat_address(self, seat: int) -> str:
        """Of the seat's server: in the third quarter of the network."""
        return str(self.network[self.network.num_addresses // 2 + self._place(seat)])

    def appliance_address(self, seat: int) -> str:
        """Of the seat's appliance: the same place in the first quarter, so that one bit tells the two apart."""
        return str(self.network[self._place(seat)])

    def container_names(self, seat: int) -> list[str]:
        """All names that containers of the seat's appliance can have, its own first."""
        name = f"{self.project}-student{seat}-appliance"
        return [name, *(f"{name}-{i}" for i in range(1, MOST_COMPANIONS + 1))]

    def _place(self, seat: int) -> int:
        if not self.first_seat <= seat <= self.last_seat:
            raise ValueError(f"seat {seat} is not from {self.first_seat} to {self.last_seat}")
        return FIRST_PLACE + seat - self.first_seat


def read_definition(folder: Path, name: str) -> Definition | None:
    """The definition of that name in a folder of them; None if there is none. Raises DefinitionProblem."""
    try:
        return Definition.from_json((folder / f"{name}.json").read_text())
    except FileNotFoundError:
        return None


def read_definitions(folder: Path) -> list[Definition]:
    """All that can be read, by name; one that cannot be read is as good as not built."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(Definition.from_json(path.read_text()))
        except (DefinitionProblem, FileNotFoundError):
            continue
    return found


def base_path(seat: int) -> str:
    """Below it the proxy shows the web pages of a seat's appliance, each under its port's name."""
    return f"/user/student{seat}/appliance"


def outside_ports(definition: Definition, seat: int, first_seat: int) -> dict[str, int]:
    """The number outside of each published port, by its variable."""
    return {name: base + seat - first_seat for name, base in definition.bases.items()}


def inside_port(definition: Definition, name: str, seat: int, first_seat: int) -> int:
    """The number of a port inside the container."""
    port = definition.ports[name]
    if port.number is not None:
        return port.number
    return outside_ports(definition, seat, first_seat)[port.publish]


def outside_name(name: str, port: Port) -> str:
    """The variable with a port's number outside: the one that it is published as, else as SSHPORT for `ssh`."""
    return port.publish or f"{name.upper().replace('-', '_')}PORT"


def network_elsewhere(project: str) -> str:
    """The network of a site's appliances on another Docker host."""
    return f"{project}_appliances"


def documents(
    definition: Definition, seat: int, plan: SeatPlan, *, elsewhere: bool = False
) -> list[tuple[str, dict[str, Any]]]:
    """Names and documents of the containers that the engine creates for this seat, in this order.

    They hold no secret. Companions share the network of the first. `elsewhere` is another Docker host: there every
    port is published, for lack of a network that the seat is in, too.
    """
    main, *others = plan.container_names(seat)
    user = f"student{seat}"
    network = network_elsewhere(plan.project) if elsewhere else f"{plan.project}_seats"
    outside = outside_ports(definition, seat, plan.first_seat)
    values = {
        "WOD_USER": user,
        "WOD_UID": str(plan.uid_base + seat),
        "WOD_GID": str(plan.gid_base + seat),
        "WOD_SEAT": str(seat),
    }
    environment = values | {
        "WOD_WORKSHOP": definition.workshop,
        "WOD_APPLIANCE": definition.host_name,
        "WOD_BASE_PATH": base_path(seat),
        **{name: str(number) for name, number in outside.items()},
    }
    bindings = {
        f"{inside_port(definition, name, seat, plan.first_seat)}/tcp": [
            {"HostIp": "0.0.0.0", "HostPort": str(outside[outside_name(name, port)])}  # noqa: S104 - on purpose
        ]
        for name, port in definition.ports.items()
        if port.publish or elsewhere
    }
    made = []
    for name, template in zip([main, *others], definition.containers, strict=False):
        document = _filled(template, values)
        document["Env"] = sorted(
            [*(f"{key}={value}" for key, value in environment.items()), *document["Env"]]
        )
        kind = "wod.appliance" if name == main else "wod.companion"
        document["Labels"] = {"wod.project": plan.project, kind: str(seat), NAME_LABEL: definition.name}
        if name == main:
            document["Hostname"] = definition.host_name
            document["ExposedPorts"] = {port: {} for port in bindings}
            document["HostConfig"]["PortBindings"] = bindings
            document["HostConfig"]["NetworkMode"] = network
            if not elsewhere:
                address = {"IPv4Address": plan.appliance_address(seat)}
                document["NetworkingConfig"] = {"EndpointsConfig": {network: {"IPAMConfig": address}}}
        else:
            document["HostConfig"]["NetworkMode"] = f"container:{main}"
        made.append((name, document))
    return made


def privileges(document: Mapping[str, Any]) -> set[str]:
    """What a container has beyond the base that all have, under the names that manifests and sites know.

    What no manifest can ask for has a name as well, which no site can allow.
    """
    host = document["HostConfig"]
    found = set(host["CapAdd"]) | {device["PathOnHost"] for device in host["Devices"]}
    options = list(host["SecurityOpt"])
    if "no-new-privileges:true" not in options:
        found.add("new-privileges")
    for option in options:
        if option.startswith("seccomp={"):
            found.add("seccomp")
        elif not option.startswith("no-new-privileges:"):
            found.add(option)
    if "MaskedPaths" in host or "ReadonlyPaths" in host:
        found.add("systempaths=unconfined")
    if host["CapDrop"] != ["ALL"]:
        found.add("capabilities that are not dropped")
    if (host["CgroupnsMode"], host["IpcMode"]) != ("private", "private"):
        found.add("namespaces of the host")
    if any(mount["Type"] != "volume" or set(mount) != {"Type", "Target"} for mount in host["Mounts"]):
        found.add("a part of the host's file system")
    return found | {f"HostConfig.{name}" for name in host if name not in _HOST_FIELDS}


def work_directory(definition: Definition, seat: int) -> str:
    """Where the notebooks lie that count for completion; empty if there are none."""
    return str(_filled(definition.work, {"WOD_USER": f"student{seat}"}))


def _filled(template: Any, values: Mapping[str, str]) -> Any:
    """A copy of a document with values for its placeholders."""
    if isinstance(template, Mapping):
        return {_filled(key, values): _filled(part, values) for key, part in template.items()}
    if isinstance(template, Sequence) and not isinstance(template, str):
        return [_filled(part, values) for part in template]
    if isinstance(template, str):
        return _PLACEHOLDER.sub(lambda match: values[match[1]], template)
    return template
