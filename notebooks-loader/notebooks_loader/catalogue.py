"""The workshops of a site: a folder of public ones and, if the site has some, a folder of private ones.

A workshop is a folder `WKSHP-<Name>` with notebooks and a `wod.yml` that describes it; the challenge
`CHLG-<Name>` is the same folder. Where both folders have a workshop, the public content is delivered and the
private `wod.yml` wins, key by key: that is what existing private repositories rely on.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from wodctl.errors import ContentProblem

DEFAULT_HOURS = 4.0
"""How long a seat is lent for a workshop that does not say."""

_NAME = re.compile(r"(WKSHP|CHLG)-([A-Za-z0-9][A-Za-z0-9._-]{0,63})")
_TAB_AFTER_KEY = re.compile(r"^([A-Za-z]\w*:)[ ]*\t[ \t]*", re.MULTILINE)
_SECRET = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_RANGE = re.compile(r"\s*(\d+)\s*-\s*(\d+)\s*")
_PLACE = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)+"
)
_MOST_PLACES = 64
_LARGEST_METADATA = 256 * 1024
_YES_NO = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True)
class Metadata:
    """What `wod.yml` tells of a workshop, under the names that registration portals know.

    Absent keys have defaults. `duration` is in hours. `range` is the first and the last seat, both
    included; None when the file gives none. `monoappliance`, `multiappliance` and `varpass` are None when the
    file leaves them open. `secrets` are names of values that only the participant's own server may read. `lab` is the
    image that participants work in; empty: as the notebooks' kernels need it. `egress` are the names, addresses and
    networks outside that a seat may reach; None for all, and empty for none.
    """

    name: str = ""
    description: str = ""
    active: bool = False
    capacity: int = 20
    priority: int = 1
    range: tuple[int, int] | None = None
    reset: bool = False
    ldap: bool = False
    replayId: int = 0
    varpass: bool | None = None
    compile: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    workshopImg: str = ""
    badgeImg: str = ""
    beta: bool = False
    category: tuple[str, ...] = ("Open Source",)
    duration: float = DEFAULT_HOURS
    presenter: str = ""
    role: str = ""
    avatar: str = ""
    replayLink: str = ""
    monoappliance: bool | None = None
    multiappliance: bool | None = None
    lab: str = ""
    egress: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Workshop:
    """One workshop; `name` is the folder's (`WKSHP-…`) also when it was asked for as a challenge.

    `path` is where its content is, `private` says that this is the private one. `oddities` are sentences about
    what its `wod.yml` says otherwise than it should, and what is understood all the same.
    """

    name: str
    path: Path
    metadata: Metadata
    private: bool = False
    oddities: tuple[str, ...] = ()

    @property
    def duration_hours(self) -> float:
        """How long a seat is lent for it."""
        return self.metadata.duration


@dataclass(frozen=True)
class Catalogue:
    """The workshops in the folders `public` and `private`; None for a site without private ones."""

    public: Path
    private: Path | None = None

    def workshop(self, name: str) -> Workshop:
        """The workshop of that name, `WKSHP-…` or `CHLG-…`. Raises `ContentProblem` if absent or broken."""
        folder = folder_name(name)
        found = [root / folder for root in self._roots() if (root / folder).is_dir()]
        if not found:
            raise ContentProblem(
                f"No workshop called {folder} in {' or '.join(str(root) for root in self._roots())}.",
                hint="`wodctl workshop list` shows those that there are.",
            )
        entries: dict[str, Any] = {}
        oddities: list[str] = []
        for path in found:
            read, odd = _read(path / "wod.yml")
            entries |= read
            oddities += odd
        metadata = _typed(entries, where=f"{folder}/wod.yml", default_name=folder.removeprefix("WKSHP-"))
        return Workshop(
            folder, found[0], metadata, private=found[0].parent != self.public, oddities=tuple(oddities)
        )

    def names(self) -> list[str]:
        """The names of all workshops, in the order of the alphabet, whether or not they can be read."""
        folders = {
            path.name
            for root in self._roots()
            if root.is_dir()
            for path in root.glob("WKSHP-*")
            if path.is_dir()
        }
        return sorted(name for name in folders if _NAME.fullmatch(name) and ".." not in name)

    def all(self) -> list[Workshop]:
        """Every workshop. Raises `ContentProblem` when one of them is broken."""
        return [self.workshop(name) for name in self.names()]

    def _roots(self) -> list[Path]:
        return [self.public, *([self.private] if self.private else [])]


def folder_name(name: str) -> str:
    """The folder of the workshop or challenge `name`. Raises `ContentProblem` for what is no such name."""
    match = _NAME.fullmatch(name)
    if not match or ".." in name:
        raise ContentProblem(
            f"{name[:80]!a} is no name of a workshop: expected WKSHP- or CHLG- and up to 64 letters, digits, "
            "'.', '_', '-'.",
            hint="`wodctl workshop list` shows the workshops that there are.",
        )
    return f"WKSHP-{match[2]}"


def _read(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The keys and values of a `wod.yml` as written, and what is odd; nothing if there is no such file."""
    where = f"{path.parent.name}/{path.name}"
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST_METADATA + 1)
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        raise ContentProblem(f"{path} cannot be read: {error.strerror}.") from error
    if len(raw) > _LARGEST_METADATA:
        raise ContentProblem(
            f"{where} has more than {_LARGEST_METADATA // 1024} KiB: expected a short description."
        )
    try:
        # YAML forbids the tab that some editors leave after a colon; other readers of these files allow it.
        text = raw.decode("utf-8-sig")
        entries = yaml.safe_load(_TAB_AFTER_KEY.sub(r"\1 ", text))
    except UnicodeDecodeError as error:
        raise ContentProblem(f"{where} is not UTF-8: byte {error.start} cannot be read.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ContentProblem(f"{where} is not YAML: {_first_line(error)}", hint=_line_hint(error)) from error
    if entries is None:
        return {}, []
    if not isinstance(entries, dict):
        raise ContentProblem(f"{where} holds a {type(entries).__name__}: expected lines of `key: value`.")
    return {str(key): value for key, value in entries.items()}, _oddities(text, entries)


def _oddities(text: str, entries: Mapping[Any, Any]) -> list[str]:
    found = [
        f"wod.yml, line {text[: tab.start()].count(chr(10)) + 1}: a TAB after {tab[1]} YAML wants a blank there."
        for tab in _TAB_AFTER_KEY.finditer(text)
    ]
    seats = entries.get("range")
    if isinstance(seats, str) or (isinstance(seats, list) and len(seats) == 1):
        found.append(f"wod.yml: range is written {str(seats)[:40]}: expected two numbers, as in [1, 20].")
    known = {field.name for field in fields(Metadata)}
    found += [f"wod.yml: there is no key {str(key)[:40]!r}." for key in entries if str(key) not in known]
    return found


def _first_line(error: Exception) -> str:
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0] or type(error).__name__
    return f"{problem}."


def _line_hint(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"Look at line {mark.line + 1}." if mark else ""


def _typed(entries: Mapping[str, Any], *, where: str, default_name: str) -> Metadata:
    hints = get_type_hints(Metadata)
    values: dict[str, Any] = {"name": default_name}
    for field in fields(Metadata):
        value = entries.get(field.name)
        if value is None or value == "":
            continue
        try:
            values[field.name] = _convert(field.name, value, hints[field.name])
        except (TypeError, ValueError) as error:
            raise ContentProblem(
                f"{where}: {field.name} is {str(value)[:60]!r}: "
                f"expected {_expected(field.name, hints[field.name])}.",
            ) from error
    return Metadata(**values)


def _convert(name: str, value: Any, wanted: Any) -> Any:
    """`value` as the type that `wanted` names; ValueError when it cannot be understood so."""
    kinds = (
        [kind for kind in get_args(wanted) if kind is not NoneType]
        if NoneType in get_args(wanted)
        else [wanted]
    )
    kind = kinds[0]
    if name == "range":
        return _seats(value)
    if name == "duration":
        hours = float(value)
        if not 0 < hours <= 24 * 365:
            raise ValueError(value)
        return hours
    if name == "secrets":
        return _names(value)
    if name == "egress":
        return _places(value)
    if get_origin(kind) is tuple:
        return _words(value)
    if kind is bool:
        return value if isinstance(value, bool) else _YES_NO[_lower(value)]
    if kind is int:
        return int(value)
    return str(value).strip()


def _lower(value: Any) -> str:
    text = str(value).strip().lower()
    if text not in _YES_NO:
        raise ValueError(value)
    return text


def _words(value: Any) -> tuple[str, ...]:
    """A list, or the comma list that `compile` may be; `false` and `null` are none."""
    if isinstance(value, list):
        return tuple(str(item).strip() for item in value)
    if value is False or str(value).strip().lower() in ("false", "null", "no"):
        return ()
    return tuple(word.strip() for word in str(value).split(",") if word.strip())


def _names(value: Any) -> tuple[str, ...]:
    words = _words(value)
    if not all(_SECRET.fullmatch(word) for word in words) or len(set(words)) < len(words):
        raise ValueError(value)
    return words


def _places(value: Any) -> tuple[str, ...] | None:
    """Names, addresses and networks from a list; None of `open`, and none of `none`."""
    if value in ("open", ["open"]):
        return None
    if value in ("none", ["none"]):
        return ()
    # One that is misread would open or close another place than was meant.
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(value)
    places = tuple(item.strip().rstrip(".").lower() for item in value)
    if not 0 < len(places) <= _MOST_PLACES or not all(_is_place(place) for place in places):
        raise ValueError(value)
    return places


def _is_place(text: str) -> bool:
    try:
        ipaddress.IPv4Network(text)
    except ValueError:
        # A label of digits at the end is no name: 192.0.2.300.
        return _PLACE.fullmatch(text) is not None and not text.rpartition(".")[2].isdigit()
    return True


def _seats(value: Any) -> tuple[int, int]:
    """First and last seat from `[1, 20]`, `[1-20]` or `1-20`."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list):
        first, last = (int(item) for item in value)
    else:
        match = _RANGE.fullmatch(str(value))
        if not match:
            raise ValueError(value)
        first, last = int(match[1]), int(match[2])
    if not 1 <= first <= last:
        raise ValueError(value)
    return first, last


def _expected(name: str, wanted: Any) -> str:
    if name == "range":
        return "the first and the last seat, as in [1, 20]"
    if name == "duration":
        return "hours, as in 4"
    if name == "egress":
        return "open, none, or a list of names, addresses and networks, as in [git.example.net, 192.0.2.0/24]"
    if name == "secrets":
        return "different names of letters, digits and '_', as in [APITOKEN]"
    return {int: "a whole number", bool: "true or false"}.get((get_args(wanted) or (wanted,))[0], "a text")
