"""How much of a workshop was carried out, counted in notebooks that their participant may have tampered with."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from wodctl.adapters.completion import LARGEST_NOTEBOOK, ensure_unexecuted, percentage


def cell(count: int | None, source: Any = "x = 1", **more: Any) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": count,
        "source": source,
        "outputs": [],
        "metadata": {},
    } | more


def notebook(*cells: Any) -> str:
    return json.dumps({"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, indent=1)


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    folder = tmp_path / "student3" / "WKSHP-X"
    folder.mkdir(parents=True)
    return folder


def ratio(workshop: Path) -> int:
    return percentage(workshop.parents[1], "student3", "WKSHP-X")


def test_an_untouched_workshop_is_at_0(workshop: Path) -> None:
    """However its author left the counters, in cells and in their outputs."""
    output = {"output_type": "execute_result", "execution_count": 7, "data": {}, "metadata": {}}
    shipped = notebook(cell(7, outputs=[output]), cell(8), cell(None))
    (workshop / "1.ipynb").write_text(shipped)
    ensure_unexecuted(workshop)
    assert ratio(workshop) == 0
    after = json.loads((workshop / "1.ipynb").read_text())
    assert after["cells"][0]["outputs"] == [output]


def test_cells_run_again_with_the_numbers_they_came_with_count(workshop: Path) -> None:
    """A kernel that starts anew counts from 1, as the author's did."""
    (workshop / "1.ipynb").write_text(notebook(cell(1), cell(2)))
    ensure_unexecuted(workshop)
    (workshop / "1.ipynb").write_text(notebook(cell(1), cell(2)))
    assert ratio(workshop) == 100


def test_executed_code_cells_are_counted_of_all_rounded_down(workshop: Path) -> None:
    """Over all notebooks; text, empty cells and outputs count for nothing."""
    text = {"cell_type": "markdown", "source": ["# T"], "metadata": {}}
    (workshop / "1.ipynb").write_text(notebook(text, cell(1), cell(None, ["y\n"]), cell(None, ["\n", " "])))
    (workshop / "2.ipynb").write_text(notebook(cell(None)))
    (workshop / "Data").mkdir()
    (workshop / "Data" / "3.ipynb").write_text(notebook(cell(1)))
    assert ratio(workshop) == 33


def test_a_notebook_without_counters_is_left_byte_for_byte(workshop: Path) -> None:
    """Only what must change is written."""
    raw = notebook(cell(None)).replace("\n", "\r\n")
    (workshop / "1.ipynb").write_bytes(raw.encode())
    ensure_unexecuted(workshop)
    assert (workshop / "1.ipynb").read_bytes() == raw.encode()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"cells": 3}', b'{"cells": [3, {"cell_type": "code"}]}',
                                     b"[" * 100_000, b"\xff\xfe", b"9" * 10_000])  # fmt: skip
def test_what_is_no_notebook_is_passed_over(workshop: Path, content: bytes) -> None:
    """Neither delivery nor counting stumbles over it."""
    (workshop / "0.ipynb").write_bytes(content)
    (workshop / "1.ipynb").write_text(notebook(cell(1)))
    assert ratio(workshop) == 100
    ensure_unexecuted(workshop)
    assert ratio(workshop) == 0
    assert (workshop / "0.ipynb").read_bytes() == content


def test_a_hostile_home_leads_nowhere(workshop: Path, tmp_path: Path) -> None:
    """Links are not followed, pipes do not hang us, and a huge file costs nothing."""
    elsewhere = tmp_path / "student4"
    elsewhere.mkdir()
    (elsewhere / "9.ipynb").write_text(notebook(cell(1)))
    (workshop / "1.ipynb").write_text(notebook(cell(None)))
    (workshop / "2.ipynb").symlink_to(elsewhere / "9.ipynb")
    os.mkfifo(workshop / "3.ipynb")
    (workshop / "4.ipynb").mkdir()
    with (workshop / "5.ipynb").open("wb") as huge:
        huge.truncate(LARGEST_NOTEBOOK + 1)
    start = time.monotonic()
    assert ratio(workshop) == 0
    assert time.monotonic() - start < 60


@pytest.mark.parametrize("where", ["student3", "student3/WKSHP-X"])
def test_a_home_that_is_a_link_counts_for_nothing(tmp_path: Path, where: str) -> None:
    """Nor does a folder, nor what is not there."""
    real = tmp_path / "real" / "WKSHP-X"
    real.mkdir(parents=True)
    (real / "1.ipynb").write_text(notebook(cell(1)))
    if "/" in where:
        (tmp_path / "student3").mkdir()
    (tmp_path / where).symlink_to(real if "/" in where else real.parent)
    assert percentage(tmp_path, "student3", "WKSHP-X") == 0
    assert percentage(tmp_path, "student9", "WKSHP-X") == 0
