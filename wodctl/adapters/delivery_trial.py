"""Deliveries for the sake of measuring: a workshop made up for it, our way and Ansible's, into homes of nobody."""

import json
import os
import random
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from notebooks_loader import delivery
from wodctl.adapters import process
from wodctl.adapters.workshops import Workshops
from wodctl.errors import ContentProblem, EngineProblem
from wodctl.model.settings import Settings

NAME = "WKSHP-Trial101"
NOTEBOOKS = 10
BYTES = 5 * 10**6
"""What the workshop has: so many notebooks of 40 cells, and with pictures so many bytes."""

DENSE = "WKSHP-Dense101"
"""Another of the same size, in whose notebooks every line of text is mostly expressions: 665 in each."""

_CELLS = 40
_PLAYBOOK = [
    {
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [
            {"ansible.builtin.copy": {"src": "{{ source }}/", "dest": "{{ target }}/", "owner": "{{ owner }}"}},
            {
                "ansible.builtin.template": {
                    "src": "{{ item }}", "dest": "{{ target }}/{{ item | basename }}", "mode": "0744",
                    "owner": "{{ owner }}",
                },
                "with_fileglob": "{{ source }}/*.ipynb",
            },
        ],
    }
]  # fmt: skip


@dataclass(frozen=True)
class DeliveryTrial:
    """A workshop below `folder`, to be delivered to seats below it."""

    folder: Path
    settings: Settings

    @classmethod
    @contextmanager
    def prepared(cls, folder: Path, settings: Settings) -> Iterator["DeliveryTrial"]:
        """Made in a new folder below `folder`, and removed with all homes at the end."""
        with TemporaryDirectory(prefix="delivery-", dir=folder) as scratch:
            trial = cls(Path(scratch), settings)
            for name, notebook in ((NAME, _notebook), (DENSE, _dense_notebook)):
                _make_workshop(trial.folder / "workshops" / name, notebook)
                trial.seconds(1, name)  # warm: the worker has rendered a workshop before
            yield trial

    def seconds(self, seat: int, name: str = NAME) -> float:
        """Seconds to deliver to one seat, skeleton aside."""
        home = self._home(seat)
        workshops = Workshops(self.settings, self.folder / "workshops")
        start = time.monotonic()
        workshop = workshops.workshop(name)
        workshops.fill(home, workshop, "WKSHP", seat, _owner(self.settings, seat), os.getegid())
        spent = time.monotonic() - start
        shutil.rmtree(home)
        return spent

    def seconds_of_all(self, seats: int) -> float:
        """Seconds until that many seats have it, as many at a time as there are processors."""
        start = time.monotonic()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(self.seconds, range(1, seats + 1)))
        return time.monotonic() - start

    def peak_memory(self) -> int:
        """Bytes that this process had in memory at most, so far (getrusage(2) counts in KiB)."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def seconds_of_ansible(self, seat: int) -> float:
        """Seconds that ansible-core's copy and template modules take for the same, from start to end.

        Raises EngineProblem where ansible-core is neither on PATH nor can be installed, and ContentProblem if
        its notebooks are not ours byte for byte.
        """
        program, home = self._ansible(), self._home(seat)
        playbook, values = self.folder / "playbook.json", self.folder / "variables.json"
        playbook.write_text(json.dumps(_PLAYBOOK))
        names = {"source": str(self.folder / "workshops" / NAME), "target": str(home / NAME),
                 "owner": str(_owner(self.settings, seat)), "STDID": str(seat), "MODEWS": "WKSHP",
                 "ansible_python_interpreter": "{{ ansible_playbook_python }}"}  # fmt: skip
        values.write_text(
            json.dumps({k: v for k, v in self.settings.variables.items() if v is not None} | names)
        )
        words: list[str | Path] = [
            program,
            "--inventory",
            "localhost,",
            "--connection",
            "local",
            "--extra-vars",
            f"@{values}",
            playbook,
        ]
        start = time.monotonic()
        process.run(
            words, environment={"ANSIBLE_LOCALHOST_WARNING": "false", "LC_ALL": "C.UTF-8"}, timeout=600
        )
        spent = time.monotonic() - start
        self._compare(home / NAME, seat)
        shutil.rmtree(home)
        return spent

    def _compare(self, theirs: Path, seat: int) -> None:
        home = self._home(0)
        workshop = Workshops(self.settings, self.folder / "workshops").workshop(NAME)
        delivery.deliver(workshop, "WKSHP", seat, self.settings.variables, home, os.geteuid(), os.getegid())
        for ours in (home / NAME).glob("*.ipynb"):
            if ours.read_bytes() != (theirs / ours.name).read_bytes():
                raise ContentProblem(f"Ansible renders {ours.name} otherwise than we do.")
        shutil.rmtree(home)

    def _ansible(self) -> Path:
        """ansible-playbook beside our Python or on PATH, else one that is installed for this trial alone."""
        ours = str(Path(sys.executable).parent)
        found = shutil.which("ansible-playbook", path=os.pathsep.join([os.environ.get("PATH", ""), ours]))
        if found:
            return Path(found)
        environment = self.folder / "ansible"
        if not environment.exists():
            process.run([sys.executable, "-m", "venv", environment])
            try:
                process.run([environment / "bin" / "pip", "install", "--quiet", "ansible-core"], timeout=600)
            except EngineProblem:
                shutil.rmtree(environment)
                raise
        return environment / "bin" / "ansible-playbook"

    def _home(self, seat: int) -> Path:
        home = self.folder / f"student{seat}"
        home.mkdir()
        return home


def _owner(settings: Settings, seat: int) -> int:
    """The seat's uid, if we may give files away."""
    return settings.UIDBASE + seat if os.geteuid() == 0 else os.geteuid()


def _make_workshop(folder: Path, notebook: Callable[[random.Random], dict[str, object]]) -> None:
    chance = random.Random(101)  # noqa: S311 - the same workshop each time
    (folder / "Pictures").mkdir(parents=True)
    for number in range(NOTEBOOKS):
        name = f"{number}-WKSHP-Trial.ipynb" if number else delivery.FIRST_PAGE
        (folder / name).write_text(json.dumps(notebook(chance), indent=1))
    left = BYTES - sum(path.stat().st_size for path in folder.glob("*.ipynb"))
    for number in range(NOTEBOOKS):
        (folder / "Pictures" / f"{number}.png").write_bytes(chance.randbytes(left // NOTEBOOKS))


def _notebook(chance: random.Random) -> dict[str, object]:
    """Texts and code as workshops have them, with two expressions and a condition in every fourth cell."""
    words = [
        "seat",
        "container",
        "kernel",
        "a **bold** word",
        "\u00fcbung",
        "`code`",
        "[link](https://example.org)",
    ]
    cells: list[dict[str, object]] = []
    for number in range(_CELLS // 2):
        text = [" ".join(chance.choices(words, k=12)) + "\n" for _ in range(8)]
        if number % 2 == 0:
            text.append(
                "{% if MODEWS == 'CHLG' %}A challenge{% else %}A workshop{% endif %} of {{ BRANDING }}\n"
            )
            text.append("for student{{ STDID }}\n")
        cells.append({"cell_type": "markdown", "metadata": {}, "source": text})
        code = [f"print({chance.random()}, 'student')\n" for _ in range(8)]
        cells.append(
            {"cell_type": "code", "metadata": {}, "source": code, "outputs": [], "execution_count": None}
        )
    spec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": spec}, "nbformat": 4, "nbformat_minor": 4}


def _dense_notebook(chance: random.Random) -> dict[str, object]:
    """Seven lines of text in each cell with the seat, names of the site and a condition; 665 expressions in all."""
    line = "student{{ STDID }} of {{ BRANDING }}, {{ hostvars[inventory_hostname]['WODBEEXTFQDN'] }}"
    line += "{% if MODEWS == 'CHLG' %} (challenge){% endif %}: {{ BRANDINGWOD }} {{ chance }}\n"
    cells = []
    for _ in range(19):
        text = [line.replace("{{ chance }}", str(chance.random())) for _ in range(7)]
        cells.append({"cell_type": "markdown", "metadata": {}, "source": text})
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
