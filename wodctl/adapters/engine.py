"""The Docker Engine of this host, and Compose on it."""

import ipaddress
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wodctl.adapters import process
from wodctl.adapters.database import DATA_GID, WORKER_UID
from wodctl.errors import EngineProblem, StackProblem
from wodctl.model.appliance import FIRST_PLACE


@dataclass(frozen=True)
class Service:
    """What the engine says of one service of the stack; memory in bytes, None where the service does not run."""

    name: str
    state: str
    health: str
    memory_bytes: int | None


class Engine:
    """The engine that `docker` speaks to."""

    def __init__(self, project: str) -> None:
        self.project = project

    def ensure_answers(self) -> None:
        """Raise EngineProblem with what to do unless the engine and its Compose plug-in answer."""
        try:
            process.run(["docker", "version", "--format", "{{.Server.Version}}"], timeout=30)
        except process.ProgramFailed as error:
            raise _no_engine(error.output) from None
        try:
            process.run(["docker", "compose", "version", "--short"], timeout=30)
        except process.ProgramFailed:
            raise EngineProblem(
                "The Docker Compose plug-in is not installed.",
                hint="`./wod up --install-engine` installs it.",
            ) from None

    def compose(
        self, files: Sequence[Path], environment_file: Path, words: Sequence[str], *, show: bool = False
    ) -> str:
        """Run `docker compose` on the stack and return what it prints. Raises ProgramFailed."""
        plain = [] if sys.stdout.isatty() else ["--ansi=never"]
        start = ["docker", "compose", *plain, "-p", self.project, *(f"--file={file}" for file in files)]
        start += ["--env-file", str(environment_file)]
        return process.run([*start, *words], show=show)

    def containers(self) -> list[dict[str, Any]]:
        """The containers of this stack's services, as the engine inspects them."""
        return inspect_containers(f"label=com.docker.compose.project={self.project}")

    def lent(self) -> list[dict[str, Any]]:
        """The containers that this stack has made for seats, whatever their kind, as the engine inspects them."""
        return inspect_containers(f"label=wod.project={self.project}")

    def seats(self) -> list[dict[str, Any]]:
        """The participants' servers, as the engine inspects them."""
        return [c for c in self.lent() if "wod.seat" in c["Config"]["Labels"]]

    def appliances(self) -> list[dict[str, Any]]:
        """The containers of this stack's appliances, without companions, as the engine inspects them."""
        return inspect_containers(f"label=wod.project={self.project}", "label=wod.appliance")

    def services(self) -> list[Service]:
        """State, health and memory of each service of this stack, by name."""
        found = []
        for container in self.containers():
            state = container["State"]
            pid = state.get("Pid") or 0
            found.append(
                Service(
                    name=container["Config"]["Labels"]["com.docker.compose.service"],
                    state=state["Status"],
                    health=state.get("Health", {}).get("Status", "none"),
                    memory_bytes=_memory(container["Id"]) if pid else None,
                )
            )
        return sorted(found, key=lambda service: service.name)

    def run_in_worker(self, words: Sequence[str], text: str) -> None:
        """Run a program with the worker's rights over the data, and `text` on its standard input.

        Raises StackProblem if the worker does not run, ProgramFailed as the program ends.
        """
        who = f"--user={WORKER_UID}:{DATA_GID}"
        container = self.running("worker")
        process.run(["docker", "exec", "--interactive", who, container, *words], text=f"{text}\n")

    def running(self, service: str) -> str:
        """The id of the container of a service. Raises StackProblem if it does not run."""
        for container in self.containers():
            name = container["Config"]["Labels"]["com.docker.compose.service"]
            if name == service and container["State"]["Running"]:
                return str(container["Id"])
        raise StackProblem(f"The service {service} does not run.", hint="`wodctl up` starts it.")

    def memory_of_seat(self, number: int) -> int:
        """Memory in bytes of a seat's server. Raises EngineProblem if it does not run."""
        for container in self.seats():
            if container["Config"]["Labels"]["wod.seat"] == str(number):
                memory = _memory(container["Id"])
                if memory is not None:
                    return memory
        raise EngineProblem(f"The server of seat {number} does not run, or its memory cannot be read.")

    def image_size(self, tag: str) -> int:
        """Size of an image in bytes, with its parents' layers."""
        return int(process.run(["docker", "image", "inspect", "--format", "{{.Size}}", tag]))

    def published_ports(self) -> set[int]:
        """Ports of this host that running services of this stack hold."""
        running = [c for c in self.containers() if c["State"]["Running"]]
        bindings = [
            b for c in running for found in c["NetworkSettings"]["Ports"].values() for b in found or []
        ]
        return {int(binding["HostPort"]) for binding in bindings}

    def remove(self, containers: Sequence[str]) -> None:
        """Remove containers by id, running or not."""
        if containers:
            process.run(["docker", "rm", "--force", "--volumes", *containers])

    def free_seat_network(self, seats: int) -> str:
        """A network within 10.213.0.0/16 that neither the engine nor a route of the host uses: a /20, or larger where
        a quarter of it would not hold that many seats."""
        found = self.free_network(min(20, 30 - (seats + FIRST_PLACE).bit_length()))
        if found is None:
            raise StackProblem(
                "No free network for the seats was found within 10.213.0.0/16.",
                hint="Set WODSEATNETWORK to a private network with room for every seat, such as 10.99.0.0/20.",
            )
        return found

    def free_network(self, prefix: int) -> str | None:
        """A network of that size within 10.213.0.0/16 that neither the engine nor a route of the host uses.

        The engine's own pools end at 31 networks.
        """
        taken = [ipaddress.ip_network(text) for text in [*self._subnets(), *_routes()]]
        whole = ipaddress.ip_network("10.213.0.0/16")
        for candidate in whole.subnets(new_prefix=prefix) if prefix >= whole.prefixlen else ():
            if not any(candidate.overlaps(network) for network in taken):
                return str(candidate)
        return None

    def _subnets(self) -> list[str]:
        ids = process.run(["docker", "network", "ls", "--quiet"]).split()
        if not ids:
            return []
        networks = json.loads(process.run(["docker", "network", "inspect", *ids]))
        configured = (entry for network in networks for entry in network["IPAM"]["Config"] or [])
        return [entry["Subnet"] for entry in configured if ":" not in entry.get("Subnet", ":")]


def image_exists(tag: str) -> bool:
    """Whether the engine has the image."""
    return bool(process.run(["docker", "image", "ls", "--quiet", tag]).strip())


def images_of_ours() -> list[dict[str, Any]]:
    """The images of stack and appliances: their inspection, with `Tag`, and in `Containers` who uses them."""
    listed = [
        process.run(["docker", "image", "ls", "--filter", f"reference={pattern}", "--format",
                     "{{.Repository}}:{{.Tag}}"]).split()
        for pattern in ("wod/*", "wod/appliance/*")
    ]  # fmt: skip
    tags = sorted({tag for found in listed for tag in found if not tag.endswith(":<none>")})
    if not tags:
        return []
    users: dict[str, list[str]] = {}
    for container in inspect_containers():
        users.setdefault(container["Config"]["Image"], []).append(container["Name"].lstrip("/"))
    inspected = json.loads(process.run(["docker", "image", "inspect", *tags]))
    return [
        image | {"Tag": tag, "Containers": users.get(tag, [])}
        for tag, image in zip(tags, inspected, strict=True)
    ]


def remove_image(tag: str) -> bool:
    """Remove an image unless a container needs it; whether it is gone."""
    try:
        process.run(["docker", "image", "rm", tag])
    except process.ProgramFailed as error:
        return "No such image" in error.output
    return True


def inspect_containers(*conditions: str) -> list[dict[str, Any]]:
    """All containers that meet the conditions of `docker ps --filter`, running or not, as the engine inspects them."""
    filters = [f"--filter={condition}" for condition in conditions]
    for _ in range(10):
        ids = process.run(["docker", "ps", "--all", "--quiet", "--no-trunc", *filters]).split()
        if not ids:
            return []
        try:
            return list(json.loads(process.run(["docker", "container", "inspect", *ids])))
        except process.ProgramFailed as error:
            if "No such container" not in error.output:
                raise
            # One of them went away between the two questions: ask again.
    raise EngineProblem("Containers come and go too fast to be looked at.", hint="Try again.")


def _routes() -> list[str]:
    """Destinations of the host's IPv4 routes (/proc/net/route: hexadecimal, least significant byte first)."""
    found = []
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        _, destination, _, _, _, _, _, mask, *_ = line.split()
        if mask != "00000000":
            network = [
                str(ipaddress.ip_address(int.from_bytes(bytes.fromhex(part)[::-1], "big")))
                for part in (destination, mask)
            ]
            found.append("/".join(network))
    return found


def _memory(container: str) -> int | None:
    """Memory of a container without the page cache that the kernel can drop, as `docker stats` counts it."""
    roots = Path("/sys/fs/cgroup")
    places = [
        (roots / "system.slice" / f"docker-{container}.scope", "memory.current", "inactive_file"),
        (roots / "docker" / container, "memory.current", "inactive_file"),
        (roots / "memory" / "docker" / container, "memory.usage_in_bytes", "total_inactive_file"),
        (
            roots / "memory" / "system.slice" / f"docker-{container}.scope",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
    ]
    for folder, usage, cache in places:
        try:
            used = int((folder / usage).read_text())
            statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except OSError:
            continue
        return used - int(statistics[cache])
    return None


def _no_engine(output: str) -> EngineProblem:
    if "permission denied" in output.lower():
        return EngineProblem(
            "This user may not speak to the Docker Engine (permission denied on its socket).",
            hint="Run it as root, or add the user to the group `docker` and log in again.",
        )
    return EngineProblem(
        "No Docker Engine answers on this host.",
        hint="`./wod up` starts it, `./wod up --install-engine` installs it.",
    )
