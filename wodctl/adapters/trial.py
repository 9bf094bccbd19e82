"""The trial of an appliance: one is started as for a seat, in a network of its own, and a student signs in."""

import io
import os
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from wodctl.adapters import process
from wodctl.adapters.appliances import Appliances, Prepared, handed_over, wait_until_healthy
from wodctl.adapters.containers import Containers
from wodctl.adapters.homes import new_key_pair
from wodctl.errors import ActionFailed
from wodctl.model.appliance import HANDED_OVER, Definition, SeatPlan, base_path, documents, inside_port

PATIENCE = 30.0
"""Seconds that signing in may take."""

_KEYS = "/run/wod-trial"


@dataclass(frozen=True)
class Trial:
    """Tries appliances on the engine of this host; `guest` is the image that the student signs in from.

    `subnet` is a free one; without it the engine takes one of its own.
    """

    socket: Path
    plan: SeatPlan
    guest: str
    subnet: str | None = None

    def run(self, definition: Definition) -> float:
        """Start it, wait for its health, sign in; returns the seconds until it was healthy. Nothing of it remains.

        Raises ActionFailed with what went wrong.
        """
        name = f"{self.plan.project}-trial{os.getpid()}"
        plan = replace(self.plan, project=name, network=IPv4Network("10.0.0.0/8"))
        containers = Containers(self.socket)
        seat = plan.first_seat
        # The ports outside are not opened: others may have them.
        tried = replace(
            definition, bases={variable: 20000 + i for i, variable in enumerate(definition.published)}
        )
        prepared = Appliances(containers, Path("/nowhere"), Path("/nowhere"), plan, "").prepare(tried, seat)
        private, public = new_key_pair()
        names = [*plan.container_names(seat), f"{name}-guest"]
        with self._network(name, containers, names):
            began = time.monotonic()
            made = documents(tried, seat, plan)
            for container, document in made:
                if "NetworkingConfig" in document:
                    document["HostConfig"]["NetworkMode"] = name
                    document["HostConfig"]["PortBindings"] = {}
                    document["NetworkingConfig"] = {"EndpointsConfig": {name: {"Aliases": [tried.host_name]}}}
                containers.create(container, document)
                containers.hand_over(container, HANDED_OVER, handed_over(prepared, public))
                containers.set_going(container)
            for container, _ in made:
                wait_until_healthy(containers, container, tried, began + tried.ready_seconds)
            seconds = time.monotonic() - began
            self._sign_in(tried, prepared, private, name, containers)
            return seconds

    @contextmanager
    def _network(self, name: str, containers: Containers, names: list[str]) -> Iterator[None]:
        subnet = [f"--subnet={self.subnet}"] if self.subnet else []
        process.run(["docker", "network", "create", "--label", f"wod.trial={name}", *subnet, name])
        try:
            yield
        finally:
            for container in reversed(names):
                containers.ensure_absent(container)
            process.run(["docker", "network", "rm", name])

    def _sign_in(
        self, definition: Definition, prepared: Prepared, private: bytes, name: str, containers: Containers
    ) -> None:
        """As the student of the seat, from a container beside it."""
        way = "ssh" if "ssh" in definition.login else "http"
        if way == "ssh":
            number = inside_port(definition, definition.login["ssh"], prepared.seat, self.plan.first_seat)
            host = definition.host_name
            known = host if number == 22 else f"[{host}]:{number}"
            files = {"id": private, "known_hosts": f"{known} {prepared.host_key[1].decode()}\n".encode()}
            command = ["ssh", "-F", "none", "-i", f"{_KEYS}/id", "-p", str(number), "-o", "BatchMode=yes",
                       "-o", f"UserKnownHostsFile={_KEYS}/known_hosts", "-o", "StrictHostKeyChecking=yes",
                       f"student{prepared.seat}@{host}", "id", "-un"]  # fmt: skip
            expected = f"student{prepared.seat}"
        else:
            files = {"curl": f'url = "{self._address(definition, prepared)}"\n'.encode()}
            command = ["curl", "--silent", "--show-error", "--max-time", "20", "--noproxy", "*",
                       "--output", "/dev/null", "--write-out", "%{http_code}",
                       "--config", f"{_KEYS}/curl"]  # fmt: skip
            expected = "200"
        guest = f"{name}-guest"
        document: dict[str, Any] = {
            "Image": self.guest,
            "User": "0:0",
            "Entrypoint": command,
            "Cmd": [],
            "Healthcheck": {"Test": ["NONE"]},
            "HostConfig": {
                "NetworkMode": name,
                "Mounts": [{"Type": "volume", "Target": _KEYS}],
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges:true"],
            },
        }
        containers.create(guest, document)
        containers.hand_over(guest, _KEYS, _archive(files))
        containers.set_going(guest)
        status = containers.wait(guest, PATIENCE)
        said = containers.output(guest).strip()
        if status != 0 or said.splitlines()[-1:] != [expected]:
            raise ActionFailed(
                f"The appliance {definition.name} is healthy, but student{prepared.seat} cannot sign in by {way}: "
                f"{said[-300:] or 'no answer'} (expected {expected})."
            )

    def _address(self, definition: Definition, prepared: Prepared) -> str:
        name = definition.login["http"]
        number = inside_port(definition, name, prepared.seat, self.plan.first_seat)
        keeps = definition.ports[name].web == "keep"
        path = f"{base_path(prepared.seat)}/{name}/" if keeps else "/"
        wanted = definition.login.get("path", "")
        for value, text in prepared.secrets.items():
            wanted = wanted.replace(f"{{{value}}}", text)
        return f"http://{definition.host_name}:{number}{path}{wanted.lstrip('/')}"


def _archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o600
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
