"""Trees of files copied faithfully into a home: hidden files, links and modes too, nothing from elsewhere."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wodctl.errors import ContentProblem

MOST_ENTRIES = 20_000
"""Files, folders and links that one tree may have."""

MOST_LEVELS = 64
"""Folders within each other."""

MOST_BYTES = 2 * 1024**3
"""Bytes that one tree may have in all its files."""


@dataclass(frozen=True)
class Entry:
    """Something in a tree: `path` is relative to its root, `target` what a link says, empty for all else."""

    path: str
    source: str
    status: os.stat_result
    target: str = ""

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.status.st_mode)

    @property
    def permissions(self) -> int:
        """Its mode without set-uid, set-gid and sticky bits, which have no place in a home."""
        return stat.S_IMODE(self.status.st_mode) & 0o777


def scan(root: Path) -> list[Entry]:
    """Everything below `root`, folders before what is in them.

    Raises `ContentProblem` for a link that is absolute or leads out of `root`, for what is no file, folder or
    link, and for a tree that is larger than any workshop is.
    """
    top = os.path.realpath(root)
    entries: list[Entry] = []
    size = 0
    for entry in _walk(top, "", root.name):
        entries.append(entry)
        size += entry.status.st_size if entry.is_file else 0
        if len(entries) > MOST_ENTRIES:
            raise ContentProblem(f"{root.name} has more than {MOST_ENTRIES} files: expected a workshop.")
        if size > MOST_BYTES:
            raise ContentProblem(
                f"{root.name} has more than {MOST_BYTES // 1024**3} GiB: expected a workshop."
            )
    return entries


def _walk(top: str, folder: str, name: str) -> Iterator[Entry]:
    here = os.path.join(top, folder)
    if folder.count("/") > MOST_LEVELS:
        raise ContentProblem(
            f"{name}/{folder[:60]!a}… is more than {MOST_LEVELS} folders deep: expected a workshop."
        )
    try:
        with os.scandir(here) as found:
            below = sorted(found, key=lambda one: one.name)
    except OSError as error:
        raise ContentProblem(f"{name}/{folder} cannot be read: {error.strerror}.") from error
    for one in below:
        path = os.path.join(folder, one.name)
        status = one.stat(follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            yield Entry(path, one.path, status, target=_safe_target(one.path, top, f"{name}/{path}"))
        elif stat.S_ISDIR(status.st_mode):
            yield Entry(path, one.path, status)
            yield from _walk(top, path, name)
        elif stat.S_ISREG(status.st_mode):
            yield Entry(path, one.path, status)
        else:
            raise ContentProblem(
                f"{name}/{path} is a device, socket or pipe: expected files, folders and links."
            )


def _safe_target(link: str, top: str, shown: str) -> str:
    target = os.readlink(link)
    if os.path.isabs(target) or not (os.path.realpath(link) + "/").startswith(top + "/"):
        raise ContentProblem(
            f"{shown} is a link to {target!a}, which leads out of the workshop.",
            hint="Copy the file into the workshop, or make the link relative and keep it inside.",
        )
    return target


@dataclass(frozen=True)
class Owner:
    """Whose the installed files become."""

    uid: int
    gid: int


def make_directory(path: str, mode: int, owner: Owner) -> None:
    """Ensure the directory `path` with exactly that mode and owner; a link in its place is refused."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise ContentProblem(f"{path} is in the way: expected a folder or nothing.") from None
    os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
    os.chmod(path, mode)


def make_link(path: str, target: str, owner: Owner) -> None:
    """Make the new link `path`."""
    os.symlink(target, path)
    os.chown(path, owner.uid, owner.gid, follow_symlinks=False)


def write_file(path: str, content: bytes, mode: int, owner: Owner) -> None:
    """Write the new file `path`; FileExistsError when something has that name already."""
    descriptor = _create(path)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        _hand_over(descriptor, mode, owner)
    finally:
        os.close(descriptor)


def copy_file(entry: Entry, path: str, mode: int, owner: Owner) -> None:
    """Copy the file of `entry` to the new file `path`, its time of change included."""
    source = os.open(entry.source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        descriptor = _create(path)
        try:
            while os.sendfile(descriptor, source, None, 1 << 30):
                pass
            os.utime(descriptor, ns=(entry.status.st_mtime_ns, entry.status.st_mtime_ns))
            _hand_over(descriptor, mode, owner)
        finally:
            os.close(descriptor)
    finally:
        os.close(source)


def _create(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _hand_over(descriptor: int, mode: int, owner: Owner) -> None:
    os.fchown(descriptor, owner.uid, owner.gid)  # before the mode: a change of owner may clear bits of it
    os.fchmod(descriptor, mode)
