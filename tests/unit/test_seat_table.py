"""Values for each seat out of a table."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from notebooks_loader import seat_table
from wodctl.errors import ContentProblem

ROOT = Path(__file__).resolve().parents[2]


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "seats.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_each_column_becomes_a_map_of_seats(tmp_path: Path, mark: str):
    """Quoted fields, blanks, empty fields and lines, and seats with or without `student`."""
    text = 'seat,SRVNAME,OVIP\n1, alpha ,192.0.2.1\nstudent2,"be\'ta",\n,,\n3,,192.0.2.3\n'.replace(",", mark)
    assert seat_table.read(table(tmp_path, text)) == {
        "SRVNAME": {1: "alpha", 2: "be'ta"},
        "OVIP": {1: "192.0.2.1", 3: "192.0.2.3"},
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1: expected a name for each column"),
        ("seat\n1\n", "line 1: expected a name for each column"),
        ("seat,A,A\n", "each once"),
        ("seat,A\nx,1\n", "line 2: 'x' is no seat"),
        ("seat,A\n1,a\n1,b\n", "line 3: seat 1 comes a second time"),
        ("seat,A\n1,a,b\n", "line 2: more fields"),
    ],
)
def test_what_is_no_such_table_is_refused_with_its_line(tmp_path: Path, text: str, told: str):
    """So that it can be corrected in the spreadsheet."""
    with pytest.raises(ContentProblem, match=told):
        seat_table.read(table(tmp_path, text))


def test_the_command_prints_variables_and_names_the_seats_without_a_value(tmp_path: Path):
    """The workshop's range counts; the output is whole all the same."""
    workshop = tmp_path / "public/WKSHP-X"
    workshop.mkdir(parents=True)
    (workshop / "wod.yml").write_text("range: [2, 4]\n")
    words = ["workshop", "variables", "import", "WKSHP-X", str(table(tmp_path, "seat,A\n2,äb\n3,01\n"))]
    done = subprocess.run(
        [sys.executable, "-m", "wodctl", "--state", str(tmp_path / "state"), *words],
        cwd=ROOT, env=os.environ | {"WODNOBO": str(tmp_path / "public")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert yaml.safe_load(done.stdout) == {"A": {2: "äb", 3: "01"}}
    assert done.returncode == 8
    assert "A has no value for 1 of 3 seats: 4." in done.stderr
