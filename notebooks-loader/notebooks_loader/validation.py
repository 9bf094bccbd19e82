"""What would go wrong with workshops, told to their authors and operators before a participant sees it.

Errors stop a delivery, or a participant: a file that cannot be rendered, a notebook that cannot be opened, a
kernel that there is not, seats that the site does not have. Warnings are what looks wrong and works: a picture
that is missing, outputs left in a notebook, two workshops that share seats.
"""

import itertools
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from notebooks_loader import delivery, rendering, seat_table, tree
from notebooks_loader.catalogue import Workshop
from wodctl.errors import ContentProblem

Variables = Callable[[str, int], Mapping[str, Any]]
"""The variables for a mode (`WKSHP` or `CHLG`) and a seat. Raises ContentProblem."""


@dataclass(frozen=True)
class Finding:
    """A sentence about a workshop; `is_error` if it cannot be delivered or worked with as it is."""

    text: str
    is_error: bool


@dataclass(frozen=True)
class Flags:
    """What the content tells where `wod.yml` is silent.

    `varpass`: participants are shown a password (`PASSSTU`). `monoappliance` and `multiappliance`: there is an
    appliance at an address of the site (`IP-<workshop>`), the same for all, or counted up from seat to seat. The
    content does not tell those two apart: it is the same for all unless `wod.yml` says otherwise.
    """

    varpass: bool
    monoappliance: bool
    multiappliance: bool


def examine(
    workshop: Workshop, variables: Variables, seats: Iterable[int], kernels: Collection[str] = ()
) -> list[Finding]:
    """All that is found in a workshop's files, errors first, each once.

    `kernels` are the names of those that participants have; with none given, kernels are not looked at.
    """
    try:
        entries = tree.scan(workshop.path)
    except ContentProblem as problem:
        return [_error(problem)]
    found: dict[Finding, None] = {}  # in the order of their finding
    if not any(entry.path == delivery.FIRST_PAGE and entry.is_file for entry in entries):
        found[_error(delivery.no_first_page(workshop))] = None
    sources = delivery.sources(workshop, filter(delivery.is_template, entries))
    paths = {entry.path for entry in entries}
    for mode, seat in itertools.product(delivery.MODES, seats):
        try:
            values = delivery.values(workshop, mode, seat, variables(mode, seat))
        except ContentProblem as problem:
            found[_error(problem)] = None
            continue
        for source in sources:
            found |= dict.fromkeys(_of_file(source, values, paths, kernels))
    odd = [Finding(text, is_error=False) for text in workshop.oddities]
    return sorted([*found, *odd, *_of_flags(workshop)], key=lambda one: not one.is_error)


def examine_maps(workshop: Workshop, variables: Mapping[str, Any], seats: Collection[int]) -> list[Finding]:
    """The maps of values by seat that the workshop's files name, and that lack some of these seats."""
    try:
        sources = delivery.sources(workshop, filter(delivery.is_template, tree.scan(workshop.path)))
    except ContentProblem:
        return []  # told by `examine`
    maps = {}
    for name, value in variables.items():
        of_seats = isinstance(value, Mapping) and value and all(str(key).isdecimal() for key in value)
        used = re.compile(rb"(?<![\w.])" + re.escape(name.encode()) + rb"\s*\[\s*STDID\b")
        if of_seats and any(used.search(source.content) for source in sources):
            maps[name] = {int(key): str(found) for key, found in value.items()}
    return [Finding(text, is_error=True) for text in seat_table.missing(maps, seats)]


def examine_seats(workshops: Sequence[Workshop], first: int, last: int) -> list[tuple[str, Finding]]:
    """What is wrong with the seats that workshops ask for, on a site that has `first` to `last`; by their names.

    And workshops that a portal would take for the same.

    A workshop that is not active may have a range for later: what is an error in an active one is a warning then.
    """
    found = []
    for workshop in workshops:
        about = workshop.metadata
        if about.range is None:
            continue
        lowest, highest = about.range
        if lowest < first or highest > last:
            text = f"wod.yml: range is {lowest} to {highest}: this site has the seats {first} to {last}."
            found.append((workshop.name, Finding(text, is_error=about.active)))
        if about.capacity > highest - lowest + 1:
            text = f"wod.yml: capacity is {about.capacity}: its range {lowest} to {highest} is smaller."
            found.append((workshop.name, Finding(text, is_error=False)))
    for one, other in itertools.combinations(workshops, 2):
        if one.metadata.name == other.metadata.name:
            # A portal knows workshops by this name.
            text = f"wod.yml: name is {one.metadata.name[:60]!r}, as that of {other.name}."
            found.append((one.name, Finding(text, is_error=True)))
        ours, theirs = one.metadata.range, other.metadata.range
        if ours and theirs and ours[0] <= theirs[1] and theirs[0] <= ours[1]:
            shared = max(ours[0], theirs[0]), min(ours[1], theirs[1])
            text = f"wod.yml: its seats {shared[0]} to {shared[1]} are those of {other.name} as well."
            found.append((one.name, Finding(text, is_error=False)))
    return found


def flags(workshop: Workshop) -> Flags:
    """The flags of `wod.yml`, and where it leaves one open, what the content tells."""
    about = workshop.metadata
    shown, appliance = _told_by_content(workshop)
    return Flags(
        varpass=shown if about.varpass is None else about.varpass,
        monoappliance=(appliance and not about.multiappliance)
        if about.monoappliance is None
        else about.monoappliance,
        multiappliance=bool(about.multiappliance),
    )


def shows_password(workshop: Workshop) -> bool:
    """Whether the content shows participants a password, whatever `wod.yml` says: it could not be delivered else."""
    return _told_by_content(workshop)[0]


def _told_by_content(workshop: Workshop) -> tuple[bool, bool]:
    """Whether templates name PASSSTU, and whether they name the address of the workshop's appliance."""
    try:
        sources = delivery.sources(workshop, filter(delivery.is_template, tree.scan(workshop.path)))
    except ContentProblem:
        return False, False
    address = f"IP-{workshop.name}".encode()
    return (
        any(_PASSWORD.search(source.content) for source in sources),
        any(address in source.content for source in sources),
    )


_PASSWORD = re.compile(rb"\{[{%][^}]*\bPASSSTU\b")


def _of_flags(workshop: Workshop) -> Iterator[Finding]:
    about = workshop.metadata
    shown, appliance = _told_by_content(workshop)
    if about.varpass is False and shown:
        yield Finding("wod.yml: varpass is false, but a file shows the password (PASSSTU).", is_error=False)
    if about.monoappliance is False and not about.multiappliance and appliance:
        text = f"wod.yml: monoappliance and multiappliance are false, but a file names IP-{workshop.name}."
        yield Finding(text, is_error=False)
    for name in ("workshopImg", "replayLink"):
        value = getattr(about, name)
        if value and not re.match(r"https?://[^/\s]+/\S|/\S", value):
            yield Finding(f"wod.yml: {name} is {value[:60]!r}: expected an address.", is_error=False)


def _error(problem: ContentProblem) -> Finding:
    return Finding(f"{problem.message} {problem.hint}".strip(), is_error=True)


def _of_file(
    source: rendering.Source, values: Mapping[str, Any], paths: Collection[str], kernels: Collection[str]
) -> list[Finding]:
    try:
        [content] = rendering.render([source], values)
    except ContentProblem as problem:
        return [_error(problem)]
    if not source.is_notebook:
        return []
    odd = delivery.notebook_problem(source.path, content)
    if odd:
        return [Finding(odd, is_error=True)]
    return list(_of_notebook(source.path, json.loads(content), paths, kernels))


def _of_notebook(
    path: str, notebook: dict[str, Any], paths: Collection[str], kernels: Collection[str]
) -> Iterator[Finding]:
    metadata = notebook.get("metadata")
    spec = metadata.get("kernelspec") if isinstance(metadata, dict) else None
    kernel = spec.get("name") if isinstance(spec, dict) else None
    cells = [cell for cell in notebook["cells"] if isinstance(cell, dict)]
    if kernels and kernel is not None and kernel not in kernels:
        text = f"{path}: there is no kernel {kernel!r}; there are {', '.join(sorted(kernels))}."
        yield Finding(text, is_error=True)
    if kernel is None and any(cell.get("cell_type") == "code" for cell in cells):
        yield Finding(f"{path} names no kernel: participants are asked for one.", is_error=False)
    ran = [
        number
        for number, cell in enumerate(cells, 1)
        if cell.get("outputs") or cell.get("execution_count") is not None
    ]
    if ran:
        text = f"{path}: outputs or execution counts are left in {_cells(ran)}: clear them."
        yield Finding(text, is_error=False)
    for number, cell in enumerate(cells, 1):
        if cell.get("cell_type") == "markdown":
            for target in _missing(cell, os.path.dirname(path.partition("/")[2]), paths):
                text = f"{path}, cell {number}: {target!r} is not in the workshop."
                yield Finding(text, is_error=False)


def _cells(numbers: list[int]) -> str:
    some = ", ".join(map(str, numbers[:5]))
    return f"cell {some}" if len(numbers) == 1 else f"cells {some}{', …' if len(numbers) > 5 else ''}"


_CODE = re.compile(r"(`{3,}|~{3,}).*?(?:\1|\Z)|(`+)[^`].*?\2", re.DOTALL)
_LINK = re.compile(
    r"""\]\(\s*(?:<([^>\n]{1,500})>|([^)\s]{1,500}))|<(?:img|a)\s[^<>]{0,500}?\b(?:src|href)\s*=\s*["']?([^"'\s>]{1,500})""",
    re.IGNORECASE,
)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|[#/?]", re.I)


def _missing(cell: Mapping[str, Any], folder: str, paths: Collection[str]) -> Iterator[str]:
    """The pictures and links of a text that lead to a file of the workshop which there is not."""
    source = cell.get("source", "")
    text = _CODE.sub("", source if isinstance(source, str) else "".join(map(str, source)))
    for match in _LINK.finditer(text):
        target = match[1] or match[2] or match[3]
        # TBD is what a site's survey is called until it has one.
        if _ELSEWHERE.match(target) or target == "TBD":
            continue
        wanted = os.path.normpath(os.path.join(folder, unquote(re.split("[#?]", target)[0])))
        if wanted not in paths and wanted != ".":
            yield target
