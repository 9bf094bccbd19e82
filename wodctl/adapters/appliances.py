"""The appliances of the seats: containers by the gate, secrets that they begin with, routes to their pages."""

import io
import json
import os
import secrets
import tarfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ed25519

from wodctl.adapters.containers import Containers
from wodctl.adapters.machines import Machine, Machines, Opened, address_of, known_keys
from wodctl.errors import ActionFailed
from wodctl.model.appliance import (
    HANDED_OVER,
    NAME_LABEL,
    Definition,
    DefinitionProblem,
    SeatPlan,
    base_path,
    documents,
    inside_port,
    outside_name,
    outside_ports,
    read_definition,
    work_directory,
)
from wodctl.model.door import appliance_routes
from wodctl.model.seat import new_password

STEP = 0.1
"""Seconds between two looks at the health of a container that starts."""

MOST_WORK = 64 * 2**20
"""Bytes that are read of the directory whose notebooks count for completion."""

APPLIANCES_ELSEWHERE = ".appliances"
"""Folder beside the homes with the notes of Elsewhere."""

MOST_SECRETS = 2**20
"""Bytes that are read of an appliance's secrets, which are files of some dozen bytes."""

LARGEST_NOTEBOOK = 8 * 2**20
MOST_NOTEBOOKS = 200


@dataclass(frozen=True)
class Prepared:
    """All that an appliance and its notebooks need to know of each other, before anything of it runs.

    `values` are the notebook's variables, secrets among them; `secrets` go into the container. `host` is the other
    Docker host that it lives on; empty: this one.
    """

    definition: Definition
    seat: int
    values: Mapping[str, object]
    secrets: Mapping[str, str]
    host_key: tuple[bytes, bytes]
    ssh_files: Mapping[str, bytes]
    host: str = ""

    @property
    def outside(self) -> tuple[str, ...]:
        """What the seat must reach outside of this host."""
        return (self.host,) if self.host else ()


@dataclass(frozen=True)
class Placed:
    """An appliance that lives on another Docker host."""

    definition: Definition
    host: str


@dataclass(frozen=True)
class PreparedMachine:
    """What a participant's account on a machine of the site, and his notebooks, need to know of each other."""

    machine: Machine
    password: str
    values: Mapping[str, object]
    ssh_files: Mapping[str, bytes]

    @property
    def outside(self) -> tuple[str, ...]:
        """What the seat must reach outside of this host."""
        return (self.machine.address,)


class Everything:
    """What seats have beside their servers: an appliance here or on another Docker host, or an account on a machine."""

    def __init__(
        self, appliances: "Appliances", machines: Machines, opened: Opened, variables: Mapping[str, Any]
    ) -> None:
        self._appliances = appliances
        self._machines = machines
        self._opened = opened
        self._variables = variables

    def needed(self, workshop: Any, seat: int) -> Definition | Placed | Machine | None:
        """What this seat needs for a workshop of the catalogue. Raises ActionFailed if that cannot be had.

        Nothing, where the site names a machine and gives no key to it: its own scripts do the work then.
        """
        try:
            address = address_of(workshop.name, seat, self._variables, workshop.metadata)
        except ActionFailed:
            if self._machines.has_key:
                raise
            return None
        if address is not None and not self._appliances.reaches(address):
            return Machine(workshop.name, address, seat) if self._machines.has_key else None
        found = self._appliances.definition(workshop.name)
        if found and address:
            return Placed(found, address)
        if found is None and address:
            raise ActionFailed(f"{workshop.name} needs an appliance on {address}, and there is none.")
        if found is None and (workshop.metadata.monoappliance or workshop.metadata.multiappliance):
            raise ActionFailed(
                f"{workshop.name} needs an appliance, and there is none.",
                hint=f"Set IP-{workshop.name} to the address of a machine, or make images/appliances/… for it.",
            )
        return found

    def prepare(self, needed: Definition | Placed | Machine, seat: int) -> Prepared | PreparedMachine:
        """Fresh secrets and the values for the notebook; nothing is started."""
        if isinstance(needed, Placed):
            return self._appliances.prepare(needed.definition, seat, needed.host)
        if isinstance(needed, Definition):
            return self._appliances.prepare(needed, seat)
        password = new_password()
        name = needed.workshop.partition("-")[2].lower()
        lines = [f"Host {name} {needed.address}", f"    HostName {needed.address}", f"    User {needed.user}",
                 f"    HostKeyAlias {needed.address}", "    IdentityFile ~/.ssh/id_rsa"]  # fmt: skip
        return PreparedMachine(
            needed,
            password,
            values={f"IP-{needed.workshop}": needed.address, "PASSSTU": password},
            ssh_files={
                "config": ("\n".join(lines) + "\n").encode(),
                "known_hosts": known_keys(self._machines.known_hosts, needed.address),
            },
        )

    def start(self, prepared: Prepared | PreparedMachine, authorized_key: bytes) -> None:
        """Start the appliance, or open the account; return when it is ready."""
        if isinstance(prepared, Prepared):
            self._appliances.start(prepared, authorized_key)
            return
        self._opened.note(prepared.machine)
        self._machines.open(prepared.machine, prepared.password, authorized_key)

    def ensure_absent(self, seat: int) -> None:
        """The seat has neither. Raises Unavailable while its machine is away."""
        self._appliances.ensure_absent(seat)
        machine = self._opened.of(seat)
        if machine:
            self._machines.close(machine, new_password())
            self._opened.forget(seat)

    def values(self, seat: int) -> Mapping[str, object]:
        """What notebooks know of what the seat has; not the password of a machine, which is not kept."""
        machine = self._opened.of(seat)
        return {f"IP-{machine.workshop}": machine.address} if machine else self._appliances.values(seat)

    def notebooks(self, seat: int) -> Sequence[bytes]:
        """What counts for completion beside the home."""
        return self._appliances.notebooks(seat)


class Elsewhere:
    """Other Docker hosts, by name, and a note for each seat that has an appliance on one: files in `folder`.

    Nothing is known of a host that the site has given up, nor asked of it.
    """

    def __init__(self, hosts: Mapping[str, Containers], folder: Path) -> None:
        self.hosts = hosts
        self._folder = folder

    def note(self, seat: int, host: str) -> None:
        """Before anything of the appliance is made."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        (self._folder / f"student{seat}").write_text(host)

    def name(self, seat: int) -> str:
        """The host that the seat's appliance is on; empty if it has none elsewhere."""
        try:
            return (self._folder / f"student{seat}").read_text()
        except FileNotFoundError:
            return ""

    def of(self, seat: int) -> Containers | None:
        """The containers of that host."""
        return self.hosts.get(self.name(seat))

    def forget(self, seat: int) -> None:
        """After it was taken away."""
        (self._folder / f"student{seat}").unlink(missing_ok=True)


class Appliances:
    """The appliances on this engine, and `elsewhere`. `url` is where participants' browsers find a seat, with `{user}`
    for its user where each seat has a host name of its own.

    At most `starts` start at the same time, the others wait for their turn: more would only slow each other down, until
    the time is over that each has to get healthy.
    """

    def __init__(
        self,
        containers: Containers,
        definitions: Path,
        routes: Path,
        plan: SeatPlan,
        url: str,
        *,
        elsewhere: Elsewhere | None = None,
        starts: int = 1,
    ) -> None:
        self._elsewhere = elsewhere or Elsewhere({}, Path("/nowhere"))
        self._turns = threading.BoundedSemaphore(starts)
        self._containers = containers
        self._definitions = definitions
        self._routes = routes
        self._plan = plan
        self._url = url

    def reaches(self, address: str) -> bool:
        """Whether this is the address of another Docker host of the site."""
        return address in self._elsewhere.hosts

    def definition(self, workshop: str) -> Definition | None:
        """What the seats of a workshop have beside them; None for a workshop that needs nothing.

        Raises ActionFailed if it needs an appliance that is not built here.
        """
        name = workshop.partition("-")[2]
        try:
            found = read_definition(self._definitions, name)
        except DefinitionProblem:
            found = None
        if found is None and name in self._known():
            raise ActionFailed(
                f"{workshop} needs its appliance, which is not built.",
                hint=f"`wodctl build-appliance {name}`, then order it again.",
            )
        return found

    def prepare(self, definition: Definition, seat: int, host: str = "") -> Prepared:
        """Fresh secrets and the values for the notebook; nothing is started."""
        made = {name: secrets.token_hex(24) for name, value in definition.values.items() if "secret" in value}
        key = ed25519.Ed25519PrivateKey.generate()
        private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
        public = key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
        outside = outside_ports(definition, seat, self._plan.first_seat)
        return Prepared(
            definition,
            seat,
            values=self._values(definition, seat, host, made),
            secrets=made,
            host_key=(private, public),
            ssh_files=_ssh_files(definition, seat, public, host, outside)
            if "ssh" in definition.ports
            else {},
            host=host,
        )

    def values(self, seat: int) -> Mapping[str, object]:
        """The values for notebooks of the appliance that the seat has, as it was started; nothing if it has none."""
        host = self._elsewhere.name(seat)
        containers, name = self._elsewhere.of(seat) or self._containers, self._plan.container_names(seat)[0]
        definition = self._defined_as(containers.inspect(name) if self._any_defined() else None)
        if definition is None:
            return {}
        archive = containers.read_out(name, f"{HANDED_OVER}/secrets", MOST_SECRETS)
        return self._values(definition, seat, host, secrets_in(archive))

    def _values(
        self, definition: Definition, seat: int, host: str, made: Mapping[str, str]
    ) -> dict[str, object]:
        outside = outside_ports(definition, seat, self._plan.first_seat)
        addresses = {
            name: f"{host}:{outside[outside_name(value['address'], definition.ports[value['address']])]}"
            if host
            else f"{definition.host_name}:{inside_port(definition, value['address'], seat, self._plan.first_seat)}"
            for name, value in definition.values.items()
            if "address" in value
        }
        pages = {
            name: f"{self._seat_url(seat)}{base_path(seat)}/{value['url']}/"
            for name, value in definition.values.items()
            if "url" in value
        }
        # Under the original's names as well: where it is, and the port that a shared one would have.
        return {
            f"IP-{definition.workshop}": host or definition.host_name,
            **{f"{name}-{definition.workshop}": number for name, number in outside.items()},
            **outside,
            **made,
            **pages,
            **addresses,
        }

    def start(self, prepared: Prepared, authorized_key: bytes) -> None:
        """Start the appliance in place of any that the seat has; return when it is ready.

        Raises ActionFailed when it does not get healthy in the time that it is given, with its last words.
        """
        self.ensure_absent(prepared.seat)
        with self._turns:
            self._start(prepared, handed_over(prepared, authorized_key))

    def _start(self, prepared: Prepared, archive: bytes) -> None:
        seat, definition, host = prepared.seat, prepared.definition, prepared.host
        containers, address = self._containers, self._plan.appliance_address(seat)
        if host:
            containers, address = self._elsewhere.hosts[host], host
            self._elsewhere.note(seat, host)
        made = documents(definition, seat, self._plan, elsewhere=bool(host))
        end = time.monotonic() + definition.ready_seconds
        for name, document in made:
            containers.create(name, document)
            containers.hand_over(name, HANDED_OVER, archive)
            containers.set_going(name)
        url = self._seat_url(seat)
        routes = appliance_routes(
            definition,
            seat,
            self._plan.first_seat,
            address,
            elsewhere=bool(host),
            shown_by=str(urlsplit(url).hostname) if url != self._url else "",
        )
        if routes:
            self._write_routes(seat, json.dumps(routes))
        for name, _ in made:
            wait_until_healthy(containers, name, definition, end)

    def _seat_url(self, seat: int) -> str:
        return self._url.format(user=f"student{seat}")

    def ensure_absent(self, seat: int) -> None:
        """The seat has no appliance, and nothing of one is left: containers, volumes, routes."""
        with suppress(FileNotFoundError):
            self._route_file(seat).unlink()
        if self._any_defined():
            self._remove(self._containers, seat)
        there = self._elsewhere.of(seat)
        if there:
            self._remove(there, seat)
        self._elsewhere.forget(seat)

    def _remove(self, containers: Containers, seat: int) -> None:
        main, *companions = self._plan.container_names(seat)
        # The companions first: as long as there is one, there is the container by which we know.
        if containers.inspect(main) is not None:
            for name in [*reversed(companions), main]:
                containers.ensure_absent(name)

    def notebooks(self, seat: int) -> Sequence[bytes]:
        """What the participant's notebooks in his appliance hold, to count for completion; it is stopped for that."""
        name = self._plan.container_names(seat)[0]
        containers = self._elsewhere.of(seat) or self._containers
        definition = self._defined_as(containers.inspect(name) if self._any_defined() else None)
        if definition is None or not definition.work:
            return []
        containers.stop(name, definition.stop_seconds)
        return notebooks_in(containers.read_out(name, work_directory(definition, seat), MOST_WORK))

    def _defined_as(self, inspected: Mapping[str, Any] | None) -> Definition | None:
        """The definition of a container, as it is now; None for no container, or one whose definition is gone."""
        try:
            return (
                read_definition(self._definitions, inspected["Config"]["Labels"][NAME_LABEL])
                if inspected
                else None
            )
        except DefinitionProblem:
            return None

    def _any_defined(self) -> bool:
        """Whether this site ever built an appliance: definitions are replaced, but never go."""
        return any(self._definitions.glob("*.json"))

    def _known(self) -> list[str]:
        """Names of the appliances that could be built."""
        try:
            return (self._definitions / "known").read_text().split()
        except FileNotFoundError:
            return []

    def _route_file(self, seat: int) -> Path:
        return self._routes / f"appliance-student{seat}.yaml"

    def _write_routes(self, seat: int, text: str) -> None:
        """Replace the file in one step, for the group of the folder, which is the proxy's, to read."""
        path = self._route_file(seat)
        fresh = path.with_suffix(".new")
        fresh.write_text(text)
        fresh.chmod(0o640)
        os.replace(fresh, path)


def wait_until_healthy(containers: Containers, name: str, definition: Definition, end: float) -> None:
    """Return once a container's health check is content. Raises ActionFailed after `end` (monotonic seconds)."""
    while True:
        found = containers.inspect(name) or {"State": {"Status": "gone"}}
        state = found["State"]
        health = state.get("Health", {}).get("Status", "none")
        if health == "healthy":
            return
        gone = state["Status"] not in ("created", "running", "restarting") or found.get("RestartCount", 0) > 2
        if gone or health == "none" or time.monotonic() > end:
            why = f"{state['Status']}, {'no health check' if health == 'none' else health}"
            raise ActionFailed(
                f"The appliance {definition.name} did not become healthy within {definition.ready_seconds} s "
                f"({why}).{_last_words(containers.output(name))}"
            )
        time.sleep(STEP)


def handed_over(prepared: Prepared, authorized_key: bytes) -> bytes:
    """What the container finds in HANDED_OVER, as a tar archive. For all in there: it is the participant's own."""
    private, public = prepared.host_key
    files = {
        "authorized_keys": authorized_key.strip() + b"\n",
        "ssh_host_ed25519_key": private,
        "ssh_host_ed25519_key.pub": public + b"\n",
        **{f"secrets/{name}": text.encode() for name, text in prepared.secrets.items()},
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folder = tarfile.TarInfo("secrets")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(folder)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o444
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def secrets_in(archive: bytes) -> dict[str, str]:
    """The secrets of an appliance out of a tar archive of the folder that `handed_over` made."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive or bytes(1024))) as opened:
        for entry in opened:
            folder, _, name = entry.name.partition("/")
            file = opened.extractfile(entry) if folder == "secrets" and entry.isreg() else None
            if file:
                found[name] = file.read().decode()
    return found


def notebooks_in(archive: bytes) -> list[bytes]:
    """The notebooks right in the folder that a tar archive is of. The archive may be cut off, or made to mislead."""
    found: list[bytes] = []
    with (
        suppress(tarfile.TarError, EOFError, ValueError),
        tarfile.open(fileobj=io.BytesIO(archive)) as opened,
    ):
        for entry in opened:
            _, _, name = entry.name.partition("/")
            plain = entry.isreg() and name.endswith(".ipynb") and "/" not in name
            if plain and entry.size <= LARGEST_NOTEBOOK and len(found) < MOST_NOTEBOOKS:
                file = opened.extractfile(entry)
                if file:
                    found.append(file.read(LARGEST_NOTEBOOK))
    return found


def _ssh_files(
    definition: Definition, seat: int, public: bytes, host: str, outside: Mapping[str, int]
) -> dict[str, bytes]:
    """What belongs into the seat's ~/.ssh, so that `ssh spark101` needs no more and asks nothing."""
    name, number = definition.host_name, definition.ports["ssh"].number or 22
    if host:
        lines = [f"Host {name} {host}", f"    HostName {host}", f"    User student{seat}",
                 f"    Port {outside[outside_name('ssh', definition.ports['ssh'])]}", f"    HostKeyAlias {name}",
                 "    IdentityFile ~/.ssh/id_rsa", "    StrictHostKeyChecking yes"]  # fmt: skip
        return {
            "config": ("\n".join(lines) + "\n").encode(),
            "known_hosts": f"{name} {public.decode()}\n".encode(),
        }
    lines = [
        f"Host {name}",
        f"    User student{seat}",
        f"    Port {number}",
        "    IdentityFile ~/.ssh/id_rsa",
        "    StrictHostKeyChecking yes",
    ]
    known = name if number == 22 else f"[{name}]:{number}"
    return {
        "config": ("\n".join(lines) + "\n").encode(),
        "known_hosts": f"{known} {public.decode()}\n".encode(),
    }


def _last_words(output: str) -> str:
    last = [line for line in output.strip().splitlines() if line.strip()][-3:]
    return f" It wrote: {' / '.join(last)[:400]}" if last else ""
