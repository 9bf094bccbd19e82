"""A workshop rehearsed: delivered to pretend students, each in a container like a seat's, and every notebook run."""

import json
import os
import re
import secrets
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from notebooks_loader.catalogue import Workshop
from wodctl.adapters.homes import install_keys, new_key_pair
from wodctl.adapters.workshops import Workshops
from wodctl.errors import EngineProblem
from wodctl.model.seat import user_name
from wodctl.model.settings import STUDENTS_DIRECTORY, Settings

_KILLED = 137
"""Exit code of a container that the kernel of Linux ended, most likely for the memory that it took."""

_RUNNER = Path(__file__).with_name("notebook_runner.py")


@dataclass(frozen=True)
class Run:
    """What became of one notebook of one seat; `failed` cells are numbered from 1, `problem` ended it early.

    `timing` has the seconds of each cell that ran, by its number.
    """

    seat: int
    notebook: str
    kernel: str
    cells: int
    seconds: float
    failed: list[dict[str, Any]]
    problem: str | None
    timing: dict[str, float] = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        """Whether all of its cells did what they should."""
        return not self.failed and self.problem is None


class Rehearsal:
    """Runs workshops in `image`, as the hub runs seats. `state` is where the homes are for as long as it takes."""

    def __init__(
        self, image: str, state: Path, project: str, settings: Settings, workshops: Workshops
    ) -> None:
        self._image = image
        self._state = state
        self._project = project
        self._settings = settings
        self._workshops = workshops

    def run(self, workshop: Workshop, mode: str, seats: Sequence[int]) -> list[Run]:
        """Deliver the workshop to these seats and run all its notebooks, in the order of their names.

        As many seats at the same time as there are processors. Nothing of it is left afterwards. Raises
        ContentProblem if it cannot be delivered, EngineProblem if a container cannot be started.
        """
        with self._homes() as homes:
            for seat in seats:
                home = homes / user_name(seat)
                home.mkdir(mode=0o750)
                uid, gid = self._owner(seat)
                self._workshops.furnish(home, uid, gid)
                self._workshops.give_secrets(home, workshop, mode, seat, uid, gid)
                self._workshops.fill(home, workshop, mode, seat, uid, gid)
                install_keys(home / ".ssh", uid, gid, new_key_pair(), {})
                os.chown(home, uid, gid)
            names = {
                seat: f"{self._project}-rehearsal-{secrets.token_hex(4)}-{user_name(seat)}" for seat in seats
            }
            try:
                with ThreadPoolExecutor(os.cpu_count()) as pool:
                    try:
                        each = pool.map(lambda seat: self._seat(seat, names[seat], homes, workshop), seats)
                        return [run for runs in each for run in runs]
                    except BaseException:
                        # Whoever waits for a container now waits no longer.
                        pool.shutdown(wait=False, cancel_futures=True)
                        _remove(names.values())
                        raise
            finally:
                _remove(names.values())

    @contextmanager
    def _homes(self) -> Iterator[Path]:
        self._state.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._state, prefix="rehearsal-") as folder:
            yield Path(folder)

    def _owner(self, seat: int) -> tuple[int, int]:
        """The seat's uid and gid; our own where we may not give files away."""
        if os.geteuid() == 0:
            return self._settings.UIDBASE + seat, self._settings.GIDBASE + seat
        return os.geteuid(), os.getegid()

    def _seat(self, seat: int, name: str, homes: Path, workshop: Workshop) -> list[Run]:
        folder = homes / user_name(seat) / workshop.name
        notebooks = sorted(
            (
                str(path.relative_to(folder))
                for path in folder.rglob("*.ipynb")
                if not any(part.startswith(".") for part in path.relative_to(folder).parts)
            ),
            key=_in_reading_order,
        )
        done = subprocess.run(
            [*self._words(seat, name, homes), f"{self._home(seat)}/{workshop.name}", *notebooks],
            input=_RUNNER.read_bytes(),
            capture_output=True,
            check=False,
        )
        outcomes = [json.loads(line) for line in done.stdout.splitlines()]
        if done.returncode and done.returncode != _KILLED and not outcomes:
            last = done.stderr.decode(errors="replace").strip().splitlines()[-5:]
            raise EngineProblem(f"Seat {seat} could not be started.\n" + "\n".join(last))
        runs = [Run(seat=seat, **outcome) for outcome in outcomes]
        for notebook in notebooks[len(runs) :]:
            problem = f"The seat ended (code {done.returncode}) before this notebook did."
            runs.append(Run(seat, notebook, "", 0, 0.0, [], problem))
        return runs

    def _home(self, seat: int) -> str:
        return f"{STUDENTS_DIRECTORY}/{user_name(seat)}"

    def _words(self, seat: int, name: str, homes: Path) -> list[str]:
        """The container of a seat as the hub's spawner makes it, but for its network and its program."""
        uid, gid = self._owner(seat)
        owner = f"uid={uid},gid={gid}"
        settings, user = self._settings, user_name(seat)
        return [
            *("docker", "run", "--rm", "--interactive", f"--name={name}", f"--hostname={user}"),
            *(
                f"--user={uid}:{gid}",
                f"--workdir={self._home(seat)}",
                f"--label=wod.rehearsal={self._project}",
            ),
            *("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges:true", "--pull=never"),
            *(f"--memory={settings.WODSEATMEMORY}", f"--memory-swap={settings.WODSEATMEMORY}"),
            *(
                f"--cpus={min(settings.WODSEATCPUS, os.cpu_count() or 1)}",
                f"--pids-limit={settings.WODSEATPIDS}",
            ),
            "--tmpfs=/tmp:exec,nosuid,nodev,mode=1777",
            f"--tmpfs=/run:nosuid,nodev,mode=0755,{owner}",
            f"--tmpfs=/var/lib/extrausers:nosuid,nodev,mode=0755,size=64k,{owner}",
            f"--mount=type=bind,source={homes / user},target={self._home(seat)}",
            *(f"--env=HOME={self._home(seat)}", f"--env=JUPYTERHUB_USER={user}"),
            *(self._image, "/opt/wod/bin/python", "-I", "-"),
        ]


def _in_reading_order(notebook: str) -> tuple[object, ...]:
    """2-… before 10-…: numbers in names count as numbers."""
    return tuple((not part.isdigit(), int(part) if part.isdigit() else 0, part)
                 for part in re.split(r"(\d+)", notebook) if part)  # fmt: skip


def _remove(containers: Iterable[str]) -> None:
    subprocess.run(["docker", "rm", "--force", "--volumes", *containers], capture_output=True, check=False)
