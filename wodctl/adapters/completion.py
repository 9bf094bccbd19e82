"""How much of a workshop a participant carried out: code cells that were executed, of all code cells.

At delivery, what the author's own runs left in the notebooks' counters is taken out, so that at the end a
counter tells of the participant.
"""

import contextlib
import itertools
import json
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

LARGEST_NOTEBOOK = 8 * 2**20
"""Bytes; larger ones count for nothing: parsing takes about ten times as much memory."""

MOST_NOTEBOOKS = 200

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_one_at_a_time = threading.Lock()


def ensure_unexecuted(workshop: Path) -> None:
    """No code cell in the notebooks of a workshop, just delivered to nobody's hands yet, counts as executed."""
    for path in sorted(workshop.glob("*.ipynb")):
        if path.is_symlink() or path.stat().st_size > LARGEST_NOTEBOOK:
            continue
        with _one_at_a_time:
            document = _parsed(path.read_bytes())
            counted = [cell for cell in _code_cells(document) if cell.get("execution_count") is not None]
            for cell in counted:
                cell["execution_count"] = None
            if counted:
                text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
                path.write_text(text, encoding="utf-8", errors="surrogatepass")


def percentage(root: Path, home: str, folder: str, more: Sequence[bytes] = ()) -> int:
    """0 to 100, rounded down, of the notebooks in `folder` of that home and those whose content is in `more`.

    0 where there is nothing to count.
    Cells without any text count for nothing. The home is its participant's: links are not followed, and what
    is no notebook is passed over.
    """
    executed = total = 0
    for content in itertools.chain(_notebooks(root, home, folder), (partial(bytes, text) for text in more)):
        with _one_at_a_time:
            for cell in _code_cells(_parsed(content())):
                if _has_text(cell):
                    total += 1
                    executed += isinstance(cell.get("execution_count"), int)
    return executed * 100 // total if total else 0


def _notebooks(root: Path, home: str, folder: str) -> Iterator[Any]:
    """For each notebook a function that reads it: one at a time is enough in memory."""
    with contextlib.ExitStack() as stack:
        directory = -1
        for name in (str(root), home, folder):
            try:
                directory = os.open(name, _DIRECTORY, dir_fd=directory if directory >= 0 else None)
            except OSError:
                return
            stack.callback(os.close, directory)
        names = sorted(name for name in os.listdir(directory) if name.endswith(".ipynb"))
        for name in names[:MOST_NOTEBOOKS]:
            yield lambda name=name: _read(name, directory)


def _read(name: str, directory: int) -> bytes:
    try:
        file = os.open(name, _FILE, dir_fd=directory)
    except OSError:
        return b""
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST_NOTEBOOK:
            return b""
        with open(file, "rb", closefd=False) as opened:
            return opened.read(LARGEST_NOTEBOOK)
    finally:
        os.close(file)


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _code_cells(document: Any) -> list[dict[str, Any]]:
    cells = document.get("cells") if isinstance(document, dict) else None
    found = cells if isinstance(cells, list) else []
    return [cell for cell in found if isinstance(cell, dict) and cell.get("cell_type") == "code"]


def _has_text(cell: dict[str, Any]) -> bool:
    source = cell.get("source")
    lines = source if isinstance(source, list) else [source]
    return any(isinstance(line, str) and line.strip() for line in lines)
