"""Labs: what participants work in. `lab` is everybody's image, a folder below images/labs one with more kernels."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from notebooks_loader.kernels import PLAIN_LAB as PLAIN
from wodctl.model.settings import LAB_NAME


@dataclass(frozen=True)
class Lab:
    """A lab's folder, and the kernels that this folder brings (for all but `lab`: on top of those of `lab`)."""

    name: str
    folder: Path
    kernels: frozenset[str]

    @property
    def image(self) -> str:
        """Name of its image."""
        return PLAIN if self.name == PLAIN else f"labs/{self.name}"


@dataclass(frozen=True)
class Labs:
    """What a delivery knows of labs: the kernels that each brings, and those whose image is `built`."""

    kernels: Mapping[str, Collection[str]] = field(default_factory=lambda: {PLAIN: ()})
    built: Collection[str] = (PLAIN,)

    @classmethod
    def told(cls, environment: Mapping[str, str]) -> "Labs":
        """The labs that the environment of a service tells of (WOD_LABS, WOD_LAB_KERNELS, see compose/stack.yml)."""
        built = [word.partition("=")[0] for word in environment["WOD_LABS"].split()]
        pairs = (word.partition("=") for word in environment["WOD_LAB_KERNELS"].split())
        return cls({name: kernels.split(",") for name, _, kernels in pairs}, built)


def labs(root: Path, private: Path | None) -> dict[str, Lab]:
    """The labs of the checkout `root` and of the private repository, by name; of the same name, the private one."""
    found = {PLAIN: _lab(PLAIN, root / "images" / "lab")}
    for parent in [root / "images" / "labs", *([private / "images" / "labs"] if private else [])]:
        for folder in sorted(parent.glob("*")):
            is_lab = re.fullmatch(LAB_NAME, folder.name) and (folder / "Dockerfile").is_file()
            if is_lab and folder.name != PLAIN and not folder.is_symlink():
                found[folder.name] = _lab(folder.name, folder)
    return found


def _lab(name: str, folder: Path) -> Lab:
    kernels = (path.parent.name for path in folder.glob("kernels/*/kernel.json"))
    return Lab(name, folder, frozenset(kernel for kernel in kernels if re.fullmatch(r"[\w.-]{1,64}", kernel)))
