"""Passwords of leases that are the same in several places, until the lease ends: files that are the worker's alone.

Most passwords are known to nobody but the participant, and made when the registration database is told. One that is
in the participant's notebooks too, or in a directory, has been made before; it must not be in our database.
"""

import os
from pathlib import Path

FOLDER = ".passwords"
"""Beside the homes, where no participant ever gets to."""


class Passwords:
    """The passwords that are kept, each for one customer of a seat."""

    def __init__(self, students: Path) -> None:
        self._folder = students / FOLDER

    def keep(self, seat: int, customer: int, password: str) -> None:
        """Keep the password in place of a former one."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._path(seat, customer)
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(password)
        fresh.replace(path)

    def kept(self, seat: int, customer: int) -> str | None:
        """The password that is kept for that customer of the seat, or None."""
        try:
            return self._path(seat, customer).read_text() or None
        except FileNotFoundError:
            return None

    def forget(self, seat: int) -> None:
        """Keep none for that seat, whosever it was."""
        for path in self._folder.glob(f"{seat}-*"):
            path.unlink(missing_ok=True)

    def _path(self, seat: int, customer: int) -> Path:
        return self._folder / f"{seat}-{customer}"
