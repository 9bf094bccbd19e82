"""What every participant's home has before a workshop comes: the files of one or more skeleton folders."""

import os
from collections.abc import Iterable
from pathlib import Path

from notebooks_loader import tree

_PRIVATE = ".ssh"


def install(home: Path, uid: int, gid: int, sources: Iterable[Path]) -> None:
    """Copy the contents of all `sources` into the new directory `home`, hidden files too; later sources win.

    Everything becomes the participant's, modes as in the source; what is below `.ssh` becomes readable by him
    alone. `home` must not be live yet: a participant who can write there could lead us astray with links.
    Raises `ContentProblem` before anything is written when a source cannot be copied faithfully.
    """
    owner = tree.Owner(uid, gid)
    for entries in [tree.scan(source) for source in sources]:
        for entry in entries:
            path = os.path.join(home, entry.path)
            mode = entry.permissions
            if entry.path.partition(os.sep)[0] == _PRIVATE:
                mode &= 0o700
            if entry.is_directory:
                tree.make_directory(path, mode, owner)
                continue
            if os.path.lexists(path):
                os.unlink(path)
            if entry.is_file:
                tree.copy_file(entry, path, mode, owner)
            else:
                tree.make_link(path, entry.target, owner)
