"""An author's desk: compose/laptop.yml with one workshop, until it is told to stop."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from wodctl.adapters import process
from wodctl.errors import EngineProblem
from wodctl.model.settings import Settings

_STOPPED_BY_HAND = 130


class Desk:
    """The desk of a project for the workshop in `folder`, published on the loopback address at `port`."""

    def __init__(self, root: Path, state: Path, project: str, folder: Path, port: int) -> None:
        self._file = root / "compose" / "laptop.yml"
        self._settings = state / "author" / f"{project}.yml"
        self._project = project
        self._folder = folder
        self._port = port

    def run(self, image: str, settings: Settings) -> None:
        """Run the desk in the foreground; when it ends, however it does, nothing of it is left.

        It runs as the owner of the workshop's folder. Raises EngineProblem if it ends by itself.
        """
        owner = self._folder.stat()
        self._write_settings(settings, owner.st_uid, owner.st_gid)
        environment = os.environ | {
            "WOD_IMAGE_DESK": image,
            "WOD_AUTHOR_UID": str(owner.st_uid),
            "WOD_AUTHOR_GID": str(owner.st_gid),
            "WOD_AUTHOR_PORT": str(self._port),
            "WOD_AUTHOR_SETTINGS": str(self._settings),
            "WORKSHOPS": str(self._folder.parent),
            "WORKSHOP": self._folder.name,
        }
        progress = [] if sys.stderr.isatty() else ["--progress=quiet"]
        compose = ["docker", "compose", *progress, "-p", self._project, "-f", str(self._file)]
        try:
            self._attend([*compose, "up", "--abort-on-container-exit"], environment)
        finally:
            process.run([*compose, "down", "--volumes", "--timeout=2"], environment=environment)
            self._settings.unlink(missing_ok=True)

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
            raise EngineProblem(
                "The desk ended by itself; the lines above say why.",
                hint=f"If port {self._port} is in use, choose another with --port.",
            )

    def _write_settings(self, settings: Settings, uid: int, gid: int) -> None:
        """What notebooks are rendered with, for the author's eyes only: passwords may be among it."""
        values = dataclasses.asdict(settings)
        values["variables"] = values.pop("site_variables")
        self._settings.parent.mkdir(parents=True, exist_ok=True)
        self._settings.unlink(missing_ok=True)
        descriptor = os.open(self._settings, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(values, file, indent=1)  # JSON is YAML
            if os.geteuid() == 0:
                os.fchown(descriptor, uid, gid)
