"""The variables of one delivery: those of the workshop and of the seat, below those of the site.

From the lowest to the highest, later wins; G is the site's group of settings (WODGROUP), W the workshop:

1. public  ansible/group_vars/all.yml, ansible/group_vars/G
2. public  ansible/G/variables_W.yml
3. private ansible/G/variables_W.yml
4. private ansible/G/pass/variables_W_<seat>.yml, then the file of that name that the site's scripts made
5. the site's settings, which the private overlay's group_vars are part of

Public files lie in the folder of the public workshops, private ones in the private repository. A challenge
`CHLG-W` takes `variables_WKSHP-W` and over it `variables_CHLG-W`. Where `variables_W.yml.j2` is, it is
rendered with the site's settings and stands for `variables_W.yml`. Site settings win because they always have:
a name that workshops give values to must not be set for the whole site.
"""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from notebooks_loader import rendering, vault
from notebooks_loader.catalogue import folder_name
from wodctl.errors import ContentProblem

LARGEST_FILE = 1024**2
"""Bytes that a file of variables may have."""


def stand_ins(workshop: str) -> dict[str, Any]:
    """What only a delivery to a seat knows, made up: for those who render a workshop without one.

    Below everything else that is known. The password of a seat, and where its workshop's appliance is.
    """
    name = folder_name(workshop)
    title = name.removeprefix("WKSHP-")
    return {
        "PASSSTU": "a-password",
        "HTTPPORT": "8080",
        f"HTTPPORT-{name}": "8080",
        f"IP-{name}": title.lower(),
    }


@dataclass(frozen=True)
class Sources:
    """Where variables come from: the site's own, and the folders with public and private files.

    `password` opens what is sealed; empty for a site without a vault.
    """

    site: Mapping[str, Any]
    group: str
    public: Path | None = None
    private: Path | None = None
    password: str = ""

    def of(self, workshop: str, mode: str, seat: int, made: Path | None = None) -> dict[str, Any]:
        """All variables for that workshop and seat, opened; `made` is the folder with what scripts made.

        Raises ContentProblem naming file and key.
        """
        site = vault.open_all(self.site, self.password, where="The settings of the site")
        title = folder_name(workshop).removeprefix("WKSHP-")
        names = [f"variables_{kind}-{title}" for kind in ("WKSHP", "CHLG")[: 2 if mode == "CHLG" else 1]]
        found: dict[str, Any] = {}
        for root, files in (
            (self.public, ["group_vars/all.yml", f"group_vars/{self.group}"]),
            (self.public, [f"{self.group}/{name}.yml" for name in names]),
            (self.private, [f"{self.group}/{name}.yml" for name in names]),
            (self.private, [f"{self.group}/pass/{name}_{seat}.yml" for name in names]),
        ):
            for file in files if root else []:
                found |= self._read(Path(str(root)), f"ansible/{file}", site)
        for name in names if made else []:
            found |= self._read(Path(str(made)), f"{name}_{seat}.yml", site)
        return found | site

    def _read(self, root: Path, name: str, site: Mapping[str, Any]) -> dict[str, Any]:
        """The opened variables of one file, or of the template that stands for it; none where there is neither."""
        content = _content(root, f"{name}.j2")
        if content is not None:
            name += ".j2"
            [content] = rendering.render([rendering.Source(name, content)], site)
        else:
            content = _content(root, name)
        if content is None:
            return {}
        text = _text(content, name)
        if not vault.is_sealed(text):
            return vault.open_all(_parsed(text, name), self.password, where=name)
        try:
            text = vault.opened(text, self.password)
        except vault.CannotOpen as problem:
            raise ContentProblem(f"{name} is sealed and cannot be opened: {problem}.") from None
        return vault.open_all(_parsed(text, name), self.password, where=name, secret=True)


def _content(root: Path, name: str) -> bytes | None:
    """What a file below `root` holds; None if there is none. It may be a link, if it stays below `root`."""
    path = root / name
    try:
        if not path.resolve().is_relative_to(root.resolve()):
            raise ContentProblem(f"{name} is a link that leads out of its repository.")
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, RuntimeError) as error:
        raise ContentProblem(f"{name} cannot be read: {getattr(error, 'strerror', error)}.") from None
    if len(content) > LARGEST_FILE:
        raise ContentProblem(f"{name} has more than {LARGEST_FILE // 1024} KiB: expected some variables.")
    return content


def _text(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ContentProblem(f"{name} is not UTF-8: byte {error.start} cannot be read.") from None


@functools.lru_cache(maxsize=256)
def _parsed(text: str, name: str) -> Mapping[str, Any]:
    try:
        values = yaml.load(text, Loader=vault.Loader)  # noqa: S506 - a SafeLoader with one more tag
    except yaml.MarkedYAMLError as error:
        # The line alone: what stands there may be a secret.
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ContentProblem(f"{name}{line}: not YAML: expected lines of `NAME: value`.") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ContentProblem(f"{name}: not YAML: expected lines of `NAME: value`.") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ContentProblem(f"{name}: expected lines of `NAME: value`.")
    return values
