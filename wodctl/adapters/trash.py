"""Removing trees that somebody else made: whatever lies in one may be there to mislead us, or to be too much."""

import os
import secrets
from pathlib import Path

NAME = ".trash"
"""Below the same root, so that a rename takes a tree there at once; what is found there is nobody's."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove(root: Path, name: str) -> None:
    """Remove the tree `name` below `root`, whoever made it; nothing happens where there is none.

    It moves to a bin of its own, and each directory that is found inside another moves up into that bin, to be
    taken apart there. So neither the depth of the tree nor a symbolic link in it leads us anywhere, three open
    files are enough, and a bin that a killed worker leaves can be emptied by the next.
    """
    (root / NAME).mkdir(mode=0o700, exist_ok=True)
    bin_path = root / NAME / secrets.token_hex(8)
    bin_path.mkdir(mode=0o700)
    try:
        os.rename(root / name, bin_path / "tree")
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
