"""The students' homes on disk. A home is its participant's: whatever lies in one may be there to mislead us.

A new home is built in `.staging`, which no participant ever sees, and comes to its place by one rename; an
old one leaves by one rename to `.trash` and is taken apart there. So a home is at any moment either whole or
absent.
"""

import ctypes
import errno
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from wodctl.adapters import completion
from wodctl.errors import ActionFailed

STAGING = ".staging"
TRASH = ".trash"

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
            for name in (STAGING, TRASH):
                (self._root / name).mkdir(mode=0o700, exist_ok=True)
                for left in os.listdir(self._root / name):
                    self._remove(f"{name}/{left}")

    def new_key_pair(self) -> tuple[bytes, bytes]:
        """How a student enters his own appliance."""
        return new_key_pair()

    def build(
        self,
        user: str,
        uid: int,
        gid: int,
        fill: Callable[[Path], None],
        key_pair: tuple[bytes, bytes],
        ssh_files: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:
        """Give the user a fresh home with that key pair and what `fill` puts into it; a former one is removed.

        `ssh_files` come to the end of the files of these names in ~/.ssh.
        `fill` is called with the home's temporary path and leaves its files to that uid and gid. In the
        notebooks that it puts there, no cell counts as executed.
        """
        staged = f"{STAGING}/{user}-{secrets.token_hex(8)}"
        path = self._root / staged
        with _explained(f"build a home for {user}"):
            path.mkdir(mode=0o700)
            try:
                fill(path)
                for workshop in (found for found in path.glob("WKSHP-*") if not found.is_symlink()):
                    completion.ensure_unexecuted(workshop)
                _install_keys(path / ".ssh", uid, gid, key_pair, ssh_files)
                os.chown(path, uid, gid)
                path.chmod(0o750)
                self._remove(user)
                path.rename(self._root / user)
            except BaseException:
                self._remove(staged)
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
                self._remove(staged)

    def ensure_absent(self, user: str) -> None:
        """The user has no home, and the disk has its space back."""
        with _explained(f"remove the home of {user}"):
            self._remove(user)

    def completion(self, user: str, folder: str, more: Sequence[bytes] = ()) -> int:
        """How many of 100 code cells in the workshop's folder, and in `more` notebooks, were executed."""
        return completion.percentage(self._root, user, folder, more)

    def _remove(self, name: str) -> None:
        """Remove a tree, whoever made it; nothing happens where there is none.

        It moves to a bin of its own, and each directory that is found inside another moves up into that bin,
        to be taken apart there. So neither the depth of the tree nor a symbolic link in it leads us anywhere,
        three open files are enough, and a bin that a killed worker leaves can be emptied by the next.
        """
        bin_path = self._root / TRASH / secrets.token_hex(8)
        bin_path.mkdir(mode=0o700)
        try:
            os.rename(self._root / name, bin_path / "tree")
        except FileNotFoundError:
            bin_path.rmdir()
            return
        bin_ = os.open(bin_path, _DIRECTORY)
        try:
            while _pass_over(bin_, bin_):
                pass
        finally:
            os.close(bin_)
        bin_path.rmdir()


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


def _pass_over(directory: int, bin_: int) -> bool:
    """Remove what a directory holds, lifting its subdirectories into the bin; False if it held nothing.

    What lies in the bin itself is not lifted but taken apart. One pass may miss entries of a large directory
    that changes under our hands.
    """
    found = False
    with os.scandir(directory) as entries:
        for entry in entries:
            found = True
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=directory)
            elif directory == bin_:
                _take_apart(entry.name, bin_)
            else:
                os.rename(entry.name, secrets.token_hex(8), src_dir_fd=directory, dst_dir_fd=bin_)
    return found


def _take_apart(name: str, bin_: int) -> None:
    directory = os.open(name, _DIRECTORY, dir_fd=bin_)
    try:
        while _pass_over(directory, bin_):
            pass
    finally:
        os.close(directory)
    os.rmdir(name, dir_fd=bin_)


def new_key_pair() -> tuple[bytes, bytes]:
    """An RSA key pair without passphrase, private and public."""
    # Here, because 12 MiB of memory need not be taken before the first home is built.
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
    return private, key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH) + b"\n"


def _install_keys(
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
