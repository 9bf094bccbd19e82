"""The students' homes on disk. A home is its participant's: whatever lies in one may be there to mislead us.

A new home is built in `.staging`, which no participant ever sees, and comes to its place by one rename; an
old one leaves by one rename to `.trash` and is taken apart there. So a home is at any moment either whole or
absent.
"""

import ctypes
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from wodctl.adapters import completion, trash, usage
from wodctl.errors import ActionFailed
from wodctl.model.watchdogs import Usage

STAGING = ".staging"

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KEY_BITS = 2048


class Homes:
    """The directory that holds all homes. Methods raise ActionFailed where the disk refuses."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def ensure_tidy(self) -> None:
        """Make the two working directories, and remove from them what a killed worker left.

        Only for a moment when no action is under way: whatever is found there is nobody's.
        """
        with _explained("put the homes' directory in order"):
            for name in (STAGING, trash.NAME):
                (self._root / name).mkdir(mode=0o700, exist_ok=True)
                for left in os.listdir(self._root / name):
                    trash.remove(self._root, f"{name}/{left}")

    def new_key_pair(self) -> tuple[bytes, bytes]:
        """How a student enters his own appliance."""
        return new_key_pair()

    def build(self, user: str, uid: int, gid: int, fill: Callable[[Path], None]) -> None:
        """Give the user a fresh home with what `fill` puts into it; a former one is removed.

        `fill` is called with the home's temporary path, which is the user's already, and leaves its files to
        that uid and gid. In the notebooks that it puts there, no cell counts as executed.
        """
        staged = f"{STAGING}/{user}-{secrets.token_hex(8)}"
        path = self._root / staged
        with _explained(f"build a home for {user}"):
            path.mkdir(mode=0o700)
            try:
                os.chown(path, uid, gid)
                fill(path)
                for workshop in (found for found in path.glob("WKSHP-*") if not found.is_symlink()):
                    completion.ensure_unexecuted(workshop)
                path.chmod(0o750)
                trash.remove(self._root, user)
                path.rename(self._root / user)
            except BaseException:
                trash.remove(self._root, staged)
                raise

    def replace(self, user: str, folder: str, fill: Callable[[Path], None]) -> None:
        """Put the folder of that name into the user's home, in place of whatever has its name there.

        `fill` makes it below a temporary path and leaves it to the user. In one step the home has the new one:
        somebody works there. No cell of its notebooks counts as executed.
        """
        staged = f"{STAGING}/{user}-{secrets.token_hex(8)}"
        path = self._root / staged
        with _explained(f"put {folder} into the home of {user}"):
            path.mkdir(mode=0o700)
            try:
                fill(path)
                completion.ensure_unexecuted(path / folder)
                home = os.open(self._root / user, _DIRECTORY)
                try:
                    _exchange(path / folder, folder, home)
                finally:
                    os.close(home)
            finally:
                trash.remove(self._root, staged)

    def install_keys(
        self, home: Path, uid: int, gid: int, key_pair: tuple[bytes, bytes], ssh_files: Mapping[str, bytes]
    ) -> None:
        """Put the key pair into a home that nobody lives in yet; `ssh_files` come to the end of files in ~/.ssh."""
        with _explained(f"put keys into {home.name}"):
            install_keys(home / ".ssh", uid, gid, key_pair, ssh_files)

    def existing(self, user: str) -> Path | None:
        """The user's home, or None if he has none."""
        path = self._root / user
        return path if path.is_dir() and not path.is_symlink() else None

    def ensure_absent(self, user: str) -> None:
        """The user has no home, and the disk has its space back."""
        with _explained(f"remove the home of {user}"):
            trash.remove(self._root, user)

    def completion(self, user: str, folder: str, more: Sequence[bytes] = ()) -> int:
        """How many of 100 code cells in the workshop's folder, and in `more` notebooks, were executed."""
        return completion.percentage(self._root, user, folder, more)

    def present(self) -> list[str]:
        """The names of the homes that there are."""
        with _explained("list the homes"):
            return sorted(name for name in os.listdir(self._root) if not name.startswith("."))

    def usage(self, user: str, most_files: int) -> Usage:
        """What a home takes up, nothing where there is none; beyond `most_files` (0: any number) nothing is counted."""
        with _explained(f"look into the home of {user}"):
            return usage.of(self._root, user, most_files)

    def free(self) -> int:
        """Bytes that the file system of the homes has left for us."""
        with _explained("look at the disk"):
            found = os.statvfs(self._root)
            return found.f_bavail * found.f_frsize


def copy_from_home(home: Path, parts: Sequence[str], target: Path) -> None:
    """Copy a file of a participant's, following no link of his. Raises ActionFailed unless it is a plain file."""
    try:
        directory = os.open(home, _DIRECTORY)
        try:
            for part in parts[:-1]:
                inner = os.open(part, _DIRECTORY, dir_fd=directory)
                os.close(directory)
                directory = inner
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            source = os.open(parts[-1], flags, dir_fd=directory)
        finally:
            os.close(directory)
        with os.fdopen(source, "rb") as file:
            if not stat.S_ISREG(os.fstat(source).st_mode):
                raise ActionFailed(f"{'/'.join(parts)} in {home} is no plain file.")
            with open(target, "wb") as copy:
                shutil.copyfileobj(file, copy)
    except OSError as error:
        raise ActionFailed(
            f"{'/'.join(parts)} cannot be copied out of {home}: {error.strerror}.",
            hint="Only root may look into participants' homes; the participant finds it in his folder Take-home.",
        ) from None


def _exchange(fresh: Path, name: str, directory: int) -> None:
    """The directory's entry of that name is `fresh` from now on; `fresh` is what it was before, or gone.

    No name is followed: the participant may make it a link to what he likes, at any moment (rename(2)).
    """
    renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    anywhere, no_replace, exchange = -100, 1, 2
    for _ in range(100):  # he may make and remove it between two tries; a hundred times he will not
        for flag, expected in ((exchange, errno.ENOENT), (no_replace, errno.EEXIST)):
            if renameat2(anywhere, os.fsencode(fresh), directory, os.fsencode(name), flag) == 0:
                return
            if ctypes.get_errno() != expected:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(fresh))
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(fresh))


def new_key_pair() -> tuple[bytes, bytes]:
    """An RSA key pair without passphrase, private and public."""
    # Here, because 12 MiB of memory need not be taken before the first home is built.
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
    return private, key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH) + b"\n"


def install_keys(
    directory: Path, uid: int, gid: int, key_pair: tuple[bytes, bytes], files: Mapping[str, bytes]
) -> None:
    """The pair as id_rsa and id_rsa.pub, and the other files."""
    directory.mkdir(mode=0o700, exist_ok=True)
    directory.chmod(0o700)
    for name, content in files.items():
        with open(directory / name, "ab") as file:
            file.write(content)
    private, public = key_pair
    (directory / "id_rsa").write_bytes(private)
    (directory / "id_rsa.pub").write_bytes(public)
    for name in ("id_rsa", "id_rsa.pub", *files):
        (directory / name).chmod(0o644 if name == "id_rsa.pub" else 0o600)
        os.chown(directory / name, uid, gid)
    os.chown(directory, uid, gid)


@contextmanager
def _explained(deed: str) -> Iterator[None]:
    """Say in the operator's words what the disk refused."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ActionFailed(
                f"The disk is full: no room to {deed}.",
                hint="Make room where the state directory is, then `wodctl action retry`.",
            ) from error
        raise ActionFailed(f"Could not {deed}: {error.strerror or error} ({error.filename!r}).") from error
