"""A table of values for each seat, as spreadsheets save it, and the maps that notebooks index with STDID."""

import csv
from collections.abc import Collection, Mapping
from pathlib import Path

import yaml

from wodctl.errors import ContentProblem


def read(path: Path) -> dict[str, dict[int, str]]:
    """The maps of a CSV file by their names: its first line names the columns, its first column is the seat.

    Columns are apart by comma, semicolon or tab; an empty field is no value. Raises ContentProblem naming the
    line for what is no such table.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ContentProblem(f"{path} cannot be read as UTF-8 text: {error}.") from None
    head = text.partition("\n")[0]
    mark = max(",;\t", key=head.count)
    rows = csv.reader(text.splitlines(), delimiter=mark)
    names = [name.strip() for name in next(rows, [])][1:]
    if not names or not all(names) or len(set(names)) < len(names):
        raise ContentProblem(f"{path}, line 1: expected a name for each column after the seat's, each once.")
    maps: dict[str, dict[int, str]] = {name: {} for name in names}
    seen: set[int] = set()
    for row in rows:
        if not any(field.strip() for field in row):
            continue
        seat = _seat(row[0], path, rows.line_num)
        if seat in seen:
            raise ContentProblem(f"{path}, line {rows.line_num}: seat {seat} comes a second time.")
        if len(row) > len(names) + 1:
            raise ContentProblem(f"{path}, line {rows.line_num}: more fields than columns have names.")
        seen.add(seat)
        for name, value in zip(names, row[1:], strict=False):
            if value.strip():
                maps[name][seat] = value.strip()
    return maps


def missing(maps: Mapping[str, Mapping[int, str]], seats: Collection[int]) -> list[str]:
    """A sentence for each map that has no value for some of these seats."""
    found = []
    for name, values in maps.items():
        absent = [str(seat) for seat in seats if seat not in values]
        if absent:
            some = ", ".join(absent[:10]) + (", …" if len(absent) > 10 else "")
            found.append(f"{name} has no value for {len(absent)} of {len(seats)} seats: {some}.")
    return found


def as_yaml(maps: Mapping[str, Mapping[int, str]]) -> str:
    """The maps as a file of variables."""
    plain = {name: dict(values) for name, values in maps.items()}
    return yaml.safe_dump(plain, allow_unicode=True, sort_keys=False)


def _seat(text: str, path: Path, line: int) -> int:
    number = text.strip().removeprefix("student")
    if not number.isdecimal() or int(number) < 1:
        raise ContentProblem(f"{path}, line {line}: {text[:40]!r} is no seat: expected 3 or student3.")
    return int(number)
