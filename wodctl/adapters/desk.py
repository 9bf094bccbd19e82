"""An author's desk: compose/laptop.yml with one workshop, until it is told to stop."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import yaml

from notebooks_loader.delivery import MODES
from notebooks_loader.preview import views
from notebooks_loader.validation import Variables
from wodctl.adapters import process
from wodctl.adapters.appliances import Appliances, handed_over, wait_until_healthy
from wodctl.adapters.containers import Containers
from wodctl.adapters.homes import new_key_pair
from wodctl.errors import EngineProblem, UsageProblem
from wodctl.model.appliance import HANDED_OVER, Definition, SeatPlan, documents, inside_port

_STOPPED_BY_HAND = 130
_SEAT = 1


class ApplianceBeside:
    """The appliance of a workshop, started for student 1 in the network of an author's desk, reached by its name.

    `values` are what the notebooks know of it, `ssh_files` what belongs into the desk's ~/.ssh.
    """

    def __init__(self, socket: Path, definition: Definition, plan: SeatPlan, project: str) -> None:
        self._containers = Containers(socket)
        self._definition = definition
        self._plan = replace(plan, project=project, network=IPv4Network("10.0.0.0/8"), first_seat=_SEAT)
        nowhere = Path("/nowhere")
        self._prepared = Appliances(self._containers, nowhere, nowhere, self._plan, "").prepare(
            definition, _SEAT
        )
        pages = {
            name: f"http://{definition.host_name}:{inside_port(definition, value['url'], _SEAT, _SEAT)}/"
            for name, value in definition.values.items()
            if "url" in value
        }
        self.values = {**self._prepared.values, **pages}
        self.ssh_files = self._prepared.ssh_files

    def start(self, network: str, authorized_key: bytes) -> None:
        """Start it in that network; returns when it is healthy. Raises ActionFailed if it does not get so."""
        self.ensure_absent()
        end = time.monotonic() + self._definition.ready_seconds
        made = documents(self._definition, _SEAT, self._plan)
        for name, document in made:
            if "NetworkingConfig" in document:
                document["HostConfig"]["NetworkMode"] = network
                document["HostConfig"]["PortBindings"] = {}
                aliases = {"Aliases": [self._definition.host_name]}
                document["NetworkingConfig"] = {"EndpointsConfig": {network: aliases}}
            self._containers.create(name, document)
            self._containers.hand_over(name, HANDED_OVER, handed_over(self._prepared, authorized_key))
            self._containers.set_going(name)
        for name, _ in made:
            wait_until_healthy(self._containers, name, self._definition, end)

    def ensure_absent(self) -> None:
        """Nothing of it is left."""
        for name in reversed(self._plan.container_names(_SEAT)):
            self._containers.ensure_absent(name)


class Desk:
    """The desk for the workshop in `folder`, published on the loopback address at `port`; one for each port."""

    def __init__(self, root: Path, state: Path, project: str, folder: Path, port: int) -> None:
        self._file = root / "compose" / "laptop.yml"
        self._values = state / "author" / f"{project}-{port}.yml"
        self._project = f"{project}-author-{port}"
        self._folder = folder
        self._port = port

    def run(self, image: str, variables: Variables, appliance: "ApplianceBeside | None" = None) -> None:
        """Run the desk in the foreground; when it ends, however it does, nothing of it is left.

        The `appliance` is started in the desk's network, and signing in there from the desk needs no more.

        `variables` are what each of its views is rendered with, as a delivery would. It runs as the owner of the
        workshop's folder. Raises UsageProblem if the port is in use, EngineProblem if the desk ends by itself,
        ContentProblem if the variables cannot be had.
        """
        self._ensure_port_is_free()
        owner = self._folder.stat()
        private, public = new_key_pair()
        self._write_values(variables, appliance, private, owner.st_uid, owner.st_gid)
        environment = os.environ | {
            "WOD_IMAGE_DESK": image,
            "WOD_AUTHOR_UID": str(owner.st_uid),
            "WOD_AUTHOR_GID": str(owner.st_gid),
            "WOD_AUTHOR_PORT": str(self._port),
            "WOD_AUTHOR_VALUES": str(self._values),
            "WORKSHOPS": str(self._folder.parent),
            "WORKSHOP": self._folder.name,
        }
        progress = [] if sys.stderr.isatty() else ["--progress=quiet"]
        compose = ["docker", "compose", *progress, "-p", self._project, "-f", str(self._file)]
        down = [*compose, "down", "--volumes", "--timeout=2"]
        process.run(down, environment=environment)  # what a killed one left, perhaps another user's
        try:
            if appliance:
                # The containers of the desk, and their network, come first.
                process.run([*compose, "create"], environment=environment)
                appliance.start(f"{self._project}_default", public)
            self._attend([*compose, "up", "--abort-on-container-exit"], environment)
        finally:
            if appliance:
                appliance.ensure_absent()
            process.run(down, environment=environment)
            self._values.unlink(missing_ok=True)

    def _attend(self, words: list[str], environment: dict[str, str]) -> None:
        """Run Compose until it ends; whoever stops us stops it, and then it has a moment to say goodbye."""
        stopped = False

        def stop(*_: object) -> None:
            nonlocal stopped
            stopped = True
            running.send_signal(signal.SIGINT)

        # A process group of its own: a terminal's Ctrl-C would otherwise reach Compose twice, and be a `kill`.
        running = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
        former = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            code = running.wait()
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
        if code not in (0, _STOPPED_BY_HAND) and not stopped:
            raise EngineProblem("The desk ended by itself; the lines above say why.")

    def _ensure_port_is_free(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self._port))
            except OSError as error:
                raise UsageProblem(
                    f"Port {self._port} of 127.0.0.1 cannot be used: {error.strerror}.",
                    hint="Another desk may be open; choose another port with --port.",
                ) from None

    def _write_values(
        self, variables: Variables, appliance: "ApplianceBeside | None", private: bytes, uid: int, gid: int
    ) -> None:
        """What notebooks are rendered with, for the author's eyes only, and his key at the appliance."""
        more = appliance.values if appliance else {}
        seats = sorted({view.seat for view in views()})
        values = {f"{mode} {seat}": {**variables(mode, seat), **more} for mode in MODES for seat in seats}
        files = {"id_rsa": private, **appliance.ssh_files} if appliance else {}
        ssh = {name: content.decode() for name, content in files.items()}
        text = yaml.safe_dump({"views": values, "ssh": ssh}, allow_unicode=True)
        self._values.parent.mkdir(parents=True, exist_ok=True)
        self._values.unlink(missing_ok=True)
        descriptor = os.open(self._values, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            if os.geteuid() == 0:
                os.fchown(descriptor, uid, gid)
