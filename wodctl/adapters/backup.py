"""Backups of a site: one file with its settings, secrets, data and databases; and how one comes back.

A backup is a compressed tar archive. `databases/` holds a dump of each database, taken first: what a home has beyond it
is tidied away later, while a seat without its home would be broken. Images, rendered files and routes are not in it,
because `up` makes them anew, and neither are decisions that belong to a host: the seats' network, the project.
"""

import os
import shutil
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from wodctl.adapters import process
from wodctl.adapters.engine import Engine
from wodctl.errors import StackProblem, UsageProblem

FOLDER = "backups"
"""Where backups go unless the operator says otherwise; below the state directory."""

DATABASES = "databases"
"""Dumps that `up` has still to bring in; below the state directory."""

_RESTORING = "restoring"
_KEPT = ("options.yml", "conf", "secrets", "data")
_PREFIX, _SUFFIX = "wod-", ".tar.gz"
_PSQL = ["psql", "--username=postgres", "--dbname=postgres", "--no-psqlrc", "--tuples-only", "--no-align"]
# The containers that the hub knew are not here, and may be another stack's.
_NO_SERVER_RUNS = "UPDATE spawners SET server_id = NULL, state = NULL"
_CHANGED_WHILE_READ = 1
"""Exit code of tar: a participant was writing."""


class Backups:
    """What is kept of one state directory. `base_image` lends the rights to read and write what belongs to services."""

    def __init__(self, state: Path, engine: Engine, base_image: str) -> None:
        self._state = state
        self._engine = engine
        self._base_image = base_image

    def make(self, folder: Path, keep: int) -> Path:
        """Write a backup into the folder, only for its owner to read, and remove all but the `keep` newest there.

        May run while everything works. Raises StackProblem if the database does not run, ProgramFailed if a part
        cannot be read; then there is no file.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        work = folder / f".{os.getpid()}"
        file = folder / f"{_PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%SZ}{_SUFFIX}"
        for left in folder.glob(".[0-9]*"):
            if not Path("/proc", left.name[1:]).exists():
                shutil.rmtree(left)
        (work / DATABASES).mkdir(parents=True, mode=0o700)
        try:
            self._dump(work / DATABASES)
            with _private(work / file.name) as archive:
                self._pack(work, archive)
            (work / file.name).rename(file)
        finally:
            shutil.rmtree(work)
        for old in sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}"))[:-keep]:
            old.unlink()
        return file

    def restore(self, file: Path) -> None:
        """Bring settings, secrets and data back into an empty state directory; `bring_in` does the databases.

        Begun and not ended, it starts from nothing when called again. Raises UsageProblem where there are data
        already, ProgramFailed where the file is no backup of ours.
        """
        begun = (self._state / _RESTORING).exists()
        there = [name for name in (*_KEPT, DATABASES) if (self._state / name).exists()]
        if {"data", "secrets", DATABASES} & set(there) and not begun:
            raise UsageProblem(
                f"{self._state} is not empty: it has {', '.join(there)}.",
                hint="Restore into another --state directory; `wodctl down --volumes` empties this one for good.",
            )
        self._as_root("mkdir", "-p", f"/state/{_RESTORING}")
        left = [*there, *(f"{_RESTORING}/{name}" for name in (*_KEPT, DATABASES))]
        self._as_root("rm", "-rf", *(f"/state/{name}" for name in left))
        with file.open("rb") as archive:
            self._as_root("tar", "--extract", "--gzip", "--numeric-owner", "--preserve-permissions",
                          f"--directory=/state/{_RESTORING}", source=archive)  # fmt: skip
        # One after the other; the folder goes last, and says until then that this has not ended.
        self._as_root("sh", "-c", 'mv "$0"/* /state/ && rmdir "$0"', f"/state/{_RESTORING}")

    def ensure_no_restore_is_open(self) -> None:
        """Raise StackProblem if a restore was begun and not ended."""
        if (self._state / _RESTORING).exists():
            raise StackProblem(
                "A restore was begun here and has not ended.",
                hint="Run `wodctl restore` with the file again.",
            )

    def has_databases(self) -> bool:
        """Whether there are dumps to bring in."""
        return (self._state / DATABASES).exists()

    def bring_in(self) -> None:
        """Fill the databases with what the backup had; to be called while nobody else speaks to them.

        Run again, it does the same again, until it has ended once.
        """
        for dump in sorted((self._state / DATABASES).glob("*.dump")):
            words = ["pg_restore", "--username=postgres", f"--dbname={dump.stem}", "--clean", "--if-exists",
                     "--single-transaction"]  # fmt: skip
            container = self._engine.running("db")
            with dump.open("rb") as source:
                _run(["docker", "exec", "--interactive", container, *words], source=source)
            if dump.stem == "hub":
                words = [*_PSQL, "--dbname=hub", f"--command={_NO_SERVER_RUNS}"]
                process.run(["docker", "exec", container, *words])
        self._as_root("rm", "-r", f"/state/{DATABASES}")

    def _dump(self, folder: Path) -> None:
        container = self._engine.running("db")
        question = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'"
        for name in process.run(["docker", "exec", container, *_PSQL, f"--command={question}"]).split():
            words = ["pg_dump", "--username=postgres", "--format=custom", "--compress=0", name]
            with _private(folder / f"{name}.dump") as target:
                _run(["docker", "exec", container, *words], target=target)

    def _pack(self, work: Path, archive: IO[bytes]) -> None:
        kept = [name for name in _KEPT if (self._state / name).exists()]
        words = ["tar", "--create", "--gzip", "--numeric-owner", "--warning=no-file-changed",
                 "--warning=no-file-removed", "--ignore-failed-read", "--anchored", "--exclude=data/db",
                 "--exclude=data/routes", "--directory=/work", DATABASES, "--directory=/state", *kept]  # fmt: skip
        try:
            self._as_root(*words, mounts=[f"--volume={work}:/work:ro"], target=archive, writable=False)
        except process.ProgramFailed as error:
            if error.returncode != _CHANGED_WHILE_READ:
                raise

    def _as_root(
        self,
        *words: str,
        mounts: list[str] | None = None,
        source: IO[bytes] | None = None,
        target: IO[bytes] | None = None,
        writable: bool = True,
    ) -> None:
        """Run a program on the state directory, at /state, in a container: whoever may use the engine may do so."""
        mount = f"--volume={self._state}:/state" + ("" if writable else ":ro")
        options = ["--rm", "--interactive", "--network=none", "--user=0", mount, *(mounts or [])]
        _run(["docker", "run", *options, self._base_image, *words], source=source, target=target)


def _private(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _run(words: list[str], *, source: IO[bytes] | None = None, target: IO[bytes] | None = None) -> None:
    """Run a program from file to file. Raises ProgramFailed with its last words."""
    done = subprocess.run(
        words,
        stdin=source or subprocess.DEVNULL,
        stdout=target or subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if target:
        target.flush()
        with suppress(OSError):
            os.fsync(target.fileno())
    if done.returncode != 0:
        raise process.ProgramFailed(words, done.returncode, done.stderr.decode(errors="replace"))
