"""Which kernels a workshop's notebooks name, and which lab, the image that its participants work in, has them."""

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from notebooks_loader import tree
from notebooks_loader.catalogue import Workshop
from wodctl.errors import ContentProblem

PLAIN_LAB = "lab"
"""The lab of a workshop that needs no other; each other lab has its kernels too."""

# Looked for and not parsed: a notebook may be JSON only after it was rendered, or not at all.
_KERNEL = re.compile(rb'"kernelspec"\s*:\s*\{[^{}]*?"name"\s*:\s*"([\w.-]{1,64})"')


def named(workshop: Workshop) -> set[str]:
    """The kernels that the workshop's notebooks name. Raises ContentProblem if its folder cannot be read."""
    found: set[str] = set()
    for entry in tree.scan(workshop.path):
        if entry.is_file and entry.path.endswith(".ipynb") and ".ipynb_checkpoints" not in entry.path:
            found |= {name.decode() for name in _KERNEL.findall(_content(entry.source))}
    return found


def lab_of(workshop: Workshop, labs: Mapping[str, Collection[str]]) -> str:
    """The lab that the workshop is given in: the one that its `wod.yml` names, else the smallest with its kernels.

    `labs` are the kernels that each lab brings, by its name. A kernel that no lab has asks for nothing. Raises
    ContentProblem for a lab that there is not.
    """
    wanted = workshop.metadata.lab
    if wanted:
        if wanted not in labs:
            raise ContentProblem(
                f"{workshop.name}/wod.yml: lab is {wanted[:60]!r}; there are {', '.join(sorted(labs))}.",
                hint="A folder below images/labs is a lab.",
            )
        return wanted
    more = {name: set(kernels) - set(labs[PLAIN_LAB]) for name, kernels in labs.items()}
    needed = (named(workshop) - set(labs[PLAIN_LAB])) & set().union(*more.values())
    if not needed:
        return PLAIN_LAB
    # Where none has them all: the one that has most of them.
    return min(more, key=lambda name: (-len(needed & more[name]), len(more[name]), name))


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ContentProblem(f"{os.path.basename(path)} cannot be read: {error.strerror}.") from None
