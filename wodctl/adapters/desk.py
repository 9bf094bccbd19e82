"""An author's desk: compose/laptop.yml with one workshop, until it is told to stop."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import yaml

from notebooks_loader.delivery import MODES
from notebooks_loader.preview import views
from notebooks_loader.validation import Variables
from wodctl.adapters import process
from wodctl.errors import EngineProblem, UsageProblem

_STOPPED_BY_HAND = 130


class Desk:
    """The desk for the workshop in `folder`, published on the loopback address at `port`; one for each port."""

    def __init__(self, root: Path, state: Path, project: str, folder: Path, port: int) -> None:
        self._file = root / "compose" / "laptop.yml"
        self._values = state / "author" / f"{project}-{port}.yml"
        self._project = f"{project}-author-{port}"
        self._folder = folder
        self._port = port

    def run(self, image: str, variables: Variables) -> None:
        """Run the desk in the foreground; when it ends, however it does, nothing of it is left.

        `variables` are what each of its views is rendered with, as a delivery would. It runs as the owner of the
        workshop's folder. Raises UsageProblem if the port is in use, EngineProblem if the desk ends by itself,
        ContentProblem if the variables cannot be had.
        """
        self._ensure_port_is_free()
        owner = self._folder.stat()
        self._write_values(variables, owner.st_uid, owner.st_gid)
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
            self._attend([*compose, "up", "--abort-on-container-exit"], environment)
        finally:
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

    def _write_values(self, variables: Variables, uid: int, gid: int) -> None:
        """What notebooks are rendered with, for the author's eyes only: passwords may be among it."""
        seats = sorted({view.seat for view in views()})
        values = {f"{mode} {seat}": dict(variables(mode, seat)) for mode in MODES for seat in seats}
        text = yaml.safe_dump(values, allow_unicode=True)
        self._values.parent.mkdir(parents=True, exist_ok=True)
        self._values.unlink(missing_ok=True)
        descriptor = os.open(self._values, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            if os.geteuid() == 0:
                os.fchown(descriptor, uid, gid)
