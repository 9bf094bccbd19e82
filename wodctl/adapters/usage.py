"""What a home takes up on disk. It is measured while its participant may change it, to mislead us if he can."""

import os
from pathlib import Path

from wodctl.model.watchdogs import Usage

DEPTH = 100
"""Folders within folders that are looked into; nobody has use for so many but to hide something below them."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def of(root: Path, user: str, most_files: int) -> Usage:
    """What the home takes up that is called so; no link in it is followed, each file counts once.

    With more than `most_files` (0: any number) it is told what was found until then.
    """
    try:
        home = os.open(root / user, _DIRECTORY)
    except FileNotFoundError:
        return Usage(0, 0)
    return _Measure(most_files).of(home)


class _Measure:
    def __init__(self, most_files: int) -> None:
        self._most_files = most_files
        self._size = 0
        self._files = 0
        self._whole = True
        self._linked: set[int] = set()

    def of(self, home: int) -> Usage:
        self._add(home, 0)
        return Usage(self._size, self._files, self._whole)

    def _add(self, directory: int, depth: int) -> None:
        """Add what a directory holds, and close it."""
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if 0 < self._most_files < self._files:
                        return
                    self._add_entry(entry, directory, depth)
        finally:
            os.close(directory)

    def _add_entry(self, entry: os.DirEntry[str], directory: int, depth: int) -> None:
        try:
            found = entry.stat(follow_symlinks=False)
            self._files += 1
            if found.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                if found.st_ino in self._linked:
                    return
                self._linked.add(found.st_ino)
            self._size += found.st_blocks * 512
            if not entry.is_dir(follow_symlinks=False):
                return
            if depth >= DEPTH:
                self._whole = False
                return
            self._add(os.open(entry.name, _DIRECTORY, dir_fd=directory), depth + 1)
        except (FileNotFoundError, NotADirectoryError):
            return  # it went away while we looked
