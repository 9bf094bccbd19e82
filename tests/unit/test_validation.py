"""What authors and operators are told about workshops before a participant meets it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from notebooks_loader.catalogue import Catalogue, Workshop
from notebooks_loader.validation import Flags, examine, examine_maps, examine_seats, flags

ROOT = Path(__file__).resolve().parents[2]
KERNELS = {"python3", "bash"}


def notebook(*cells: dict[str, Any], kernel: str | None = "python3") -> str:
    metadata = {"kernelspec": {"name": kernel}} if kernel else {}
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}, indent=1)


def text(*lines: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": [f"{line}\n" for line in lines]}


def code(source: str, **more: Any) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "metadata": {},
        "source": source,
        "outputs": [],
        "execution_count": None,
    } | more


@pytest.fixture
def root(tmp_path: Path) -> Path:
    add(tmp_path, "0-ReadMeFirst.ipynb", notebook(text("# Hello")))
    return tmp_path


def add(root: Path, name: str, content: str, workshop: str = "WKSHP-X") -> None:
    path = root / workshop / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def found(root: Path, **variables: Any) -> tuple[list[str], list[str]]:
    """Errors and warnings about WKSHP-X."""
    findings = examine(Catalogue(root).workshop("WKSHP-X"), lambda mode, seat: variables, [1, 2], KERNELS)
    return [one.text for one in findings if one.is_error], [one.text for one in findings if not one.is_error]


def test_a_good_workshop_has_nothing_to_be_told(root: Path):
    """Links that lead somewhere, cells without outputs, kernels that there are."""
    add(root, "Pictures/a picture.png", "x")
    add(root, "Data/inner.ipynb", notebook(text("![up](../Pictures/a%20picture.png)"), kernel=None))
    links = [
        "![p](Pictures/a%20picture.png) ![p](<Pictures/a picture.png>) [n](Data/inner.ipynb#part 'title') [d](Data/)",
        "[w](https://example.org/x) [m](mailto:a@b) [a](#anchor) [s](/hub/home) ![c](attachment:x.png) [q](?x=1)",
        '<img width="9" src="Pictures/a%20picture.png"> <a href=https://example.org>x</a>',
        "`[not](a-link)` and ```", "![neither](is-this)", "```",
        "[![both](Pictures/a%20picture.png)](Data/inner.ipynb)",
    ]  # fmt: skip
    add(root, "1-WKSHP-x.ipynb", notebook(text(*links), code("print(1)")))
    assert found(root) == ([], [])


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        (text("![p](Pictures/none.png)"), "cell 1: 'Pictures/none.png' is not in the workshop."),
        (text("[![p](Pictures/x.png)](gone.ipynb)"), "cell 1: 'gone.ipynb' is not in the workshop."),
        (text("<img alt='x'\nsrc='none.png'/>"), "cell 1: 'none.png' is not in the workshop."),
        (
            text("[other](../WKSHP-Y/0-ReadMeFirst.ipynb)"),
            "cell 1: '../WKSHP-Y/0-ReadMeFirst.ipynb' is not in",
        ),
        (text("{{ LOGO }}"), "cell 1: 'logo.png' is not in the workshop."),
        (code("1", outputs=[{}]), "outputs or execution counts are left in cell 1: clear them."),
        (code("1", execution_count=7), "outputs or execution counts are left in cell 1: clear them."),
    ],
)
def test_what_looks_wrong_is_a_warning(root: Path, cell: dict[str, Any], told: str):
    """It names the file and the cell, and is said once though the file is rendered four times."""
    add(root, "Pictures/x.png", "x")
    add(root, "1-WKSHP-x.ipynb", notebook(cell))
    errors, warnings = found(root, LOGO="![logo](logo.png)")
    assert errors == [] and len(warnings) == 1
    assert warnings[0].startswith("WKSHP-X/1-WKSHP-x.ipynb") and told in warnings[0]


def test_a_kernel_that_there_is_not_is_an_error(root: Path):
    """The names of those that there are come along; a notebook with code that names none is a warning."""
    add(root, "1-go.ipynb", notebook(code("1"), kernel="gophernotes"))
    add(root, "2-any.ipynb", notebook(code("1"), kernel=None))
    errors, warnings = found(root)
    assert errors == ["WKSHP-X/1-go.ipynb: there is no kernel 'gophernotes'; there are bash, python3."]
    assert warnings == ["WKSHP-X/2-any.ipynb names no kernel: participants are asked for one."]


def test_a_variable_of_one_seat_alone_is_missed_at_the_other(root: Path):
    """Each seat and mode is looked at with variables of its own."""
    add(root, "a.sh", "{{ TOKEN }}{% if MODEWS == 'CHLG' %}{{ QUIZ }}{% endif %}")
    workshop = Catalogue(root).workshop("WKSHP-X")
    told = examine(workshop, lambda mode, seat: {"TOKEN": 1} if seat == 1 else {"QUIZ": 2}, [1, 2], KERNELS)
    assert [one.text.partition(".  ")[0].split(": ")[1] for one in told] == [
        "the variable 'TOKEN' is not defined. Define it in the site's settings or the workshop's variables, or write "
        "{{ '{{' }} if braces were meant.",
        "the variable 'QUIZ' is not defined. Define it in the site's settings or the workshop's variables, or write "
        "{{ '{{' }} if braces were meant.",
    ]  # fmt: skip


def test_a_map_by_seat_that_lacks_seats_is_an_error(root: Path):
    """Seats in the middle too, which are not rendered. Maps that no file indexes with the seat do not matter."""
    add(root, "a.sh", "{{ PORT[STDID] }} {{ NAME [ STDID ] }} {{ OTHER['x'] }}")
    maps = {"PORT": {1: 8001, 2: 8002, 4: 8004}, "NAME": {"1": "a", "2": "b", "3": "c", "4": "d"}}
    maps |= {"OTHER": {"x": 1}, "UNUSED": {1: 1}, "REPORT": {1: 1}}
    told = examine_maps(Catalogue(root).workshop("WKSHP-X"), maps, range(1, 5))
    assert [(one.text, one.is_error) for one in told] == [("PORT has no value for 1 of 4 seats: 3.", True)]


@pytest.mark.parametrize(
    "link", ["[" * 300_000, "](" * 150_000, "<a " * 100_000, "`" * 300_000 + " x", "` `` " * 60_000]
)
def test_a_text_made_to_keep_us_busy_does_not(root: Path, link: str):
    """Looking for links takes a time in proportion to the text."""
    add(root, "1-x.ipynb", notebook(text(link)))
    start = time.monotonic()
    found(root)
    assert time.monotonic() - start < 60


# --- wod.yml ----


def described(root: Path, name: str, metadata: str) -> Workshop:
    add(root, "0-ReadMeFirst.ipynb", notebook(), name)
    add(root, "wod.yml", metadata, name)
    return Catalogue(root).workshop(name)


def test_seats_are_looked_at_for_the_whole_catalogue(tmp_path: Path):
    """Overlaps and capacities are warnings; seats that the site does not have are an error of an active workshop."""
    workshops = [
        described(tmp_path, "WKSHP-A", "active: true\nrange: [1, 6]\ncapacity: 20\n"),
        described(tmp_path, "WKSHP-B", "active: true\nrange: [5, 10]\ncapacity: 6\n"),
        described(tmp_path, "WKSHP-C", "active: true\nrange: [90, 120]\n"),
        described(tmp_path, "WKSHP-D", "active: false\nrange: [1981-1985]\ncapacity: 5\n"),
        described(tmp_path, "WKSHP-E", "active: true\n"),
    ]
    assert [(name, one.is_error, one.text) for name, one in examine_seats(workshops, 1, 100)] == [
        ("WKSHP-A", False, "wod.yml: capacity is 20: its range 1 to 6 is smaller."),
        ("WKSHP-C", True, "wod.yml: range is 90 to 120: this site has the seats 1 to 100."),
        ("WKSHP-D", False, "wod.yml: range is 1981 to 1985: this site has the seats 1 to 100."),
        ("WKSHP-A", False, "wod.yml: its seats 5 to 6 are those of WKSHP-B as well."),
    ]


@pytest.mark.parametrize(
    ("metadata", "content", "expected"),
    [
        ("", "", Flags(varpass=False, monoappliance=False, multiappliance=False)),
        ("", "{{ PASSSTU }}", Flags(varpass=True, monoappliance=False, multiappliance=False)),
        ("", "{% if PASSSTU %}x{% endif %}", Flags(varpass=True, monoappliance=False, multiappliance=False)),
        ("", "the word PASSSTU", Flags(varpass=False, monoappliance=False, multiappliance=False)),
        ("", "{{ hostvars[inventory_hostname]['IP-WKSHP-X'] }}", Flags(False, True, False)),
        ("multiappliance: true\n", "{{ hostvars[inventory_hostname]['IP-WKSHP-X'] }}", Flags(False, False, True)),
        ("varpass: false\nmonoappliance: false\n", "{{ PASSSTU }} IP-WKSHP-X", Flags(False, False, False)),
        ("varpass: true\nmonoappliance: true\n", "", Flags(True, True, False)),
    ],
)  # fmt: skip
def test_flags_that_are_absent_are_told_by_the_content(
    root: Path, metadata: str, content: str, expected: Flags
):
    """What `wod.yml` says counts; where it is silent, what the files use."""
    workshop = described(root, "WKSHP-X", metadata)
    add(root, "a.sh", content)
    assert flags(workshop) == expected


def test_what_is_written_oddly_is_understood_with_a_warning(root: Path):
    """A TAB after a colon, a range as text, a key that there is not: as existing files have them, or mistyped."""
    described(
        root, "WKSHP-X", "reset: false\nreplayLink:\thttps://youtu.be/x\nrange: [1981-1985]\ncapcity: 5\n"
    )
    errors, warnings = found(root)
    assert errors == []
    assert warnings == [
        "wod.yml, line 2: a TAB after replayLink: YAML wants a blank there.",
        "wod.yml: range is written ['1981-1985']: expected two numbers, as in [1, 20].",
        "wod.yml: there is no key 'capcity'.",
    ]
    assert Catalogue(root).workshop("WKSHP-X").metadata.range == (1981, 1985)


def test_two_workshops_of_one_name_are_an_error(tmp_path: Path):
    """A portal would take them for the same."""
    workshops = [described(tmp_path, name, "name: The same\n") for name in ("WKSHP-A", "WKSHP-B")]
    assert [(name, one.is_error, one.text) for name, one in examine_seats(workshops, 1, 100)] == [
        ("WKSHP-A", True, "wod.yml: name is 'The same', as that of WKSHP-B."),
    ]


def test_flags_that_contradict_the_content_and_addresses_that_are_none_are_warnings(root: Path):
    """As existing files have them; they are accepted all the same."""
    described(
        root,
        "WKSHP-X",
        "varpass: false\nmonoappliance: false\nworkshopImg: '???'\nreplayLink: https://youtu.be/\n",
    )
    add(root, "a.sh", "{{ PASSSTU }} {{ hostvars[inventory_hostname]['IP-WKSHP-X'] }}")
    errors, warnings = found(root, PASSSTU="a-password", **{"IP-WKSHP-X": "192.0.2.1"})
    assert errors == []
    assert warnings == [
        "wod.yml: varpass is false, but a file shows the password (PASSSTU).",
        "wod.yml: monoappliance and multiappliance are false, but a file names IP-WKSHP-X.",
        "wod.yml: workshopImg is '???': expected an address.",
        "wod.yml: replayLink is 'https://youtu.be/': expected an address.",
    ]


# --- The command ----


def validate(state: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wodctl", "--state", str(state), "workshop", "validate", *words],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_catalogue_is_checked_as_the_worker_would_deliver_it(root: Path, tmp_path: Path):
    """The private overlay's variables count; exit code 8 with errors, 0 with warnings alone."""
    site = tmp_path / "site"
    described(site / "public", "WKSHP-A", "active: true\nrange: [1, 3]\n")
    add(site / "public", "a.sh", "{{ ONLY_HERE }} {{ SRVNAME[STDID] }}", "WKSHP-A")
    add(site / "public", "0-ReadMeFirst.ipynb", notebook(), "WKSHP-B")
    add(site / "public", "wod.yml", "duration: long\n", "WKSHP-B")
    names = {"WODNOBO": str(site / "public"), "WODPRIVDIR": str(site / "private")}
    add(site, "ansible/production/variables_WKSHP-A.yml", "ONLY_HERE: 1\nSRVNAME: {1: a, 2: b}\n", "private")
    done = validate(tmp_path / "state", "--json", **names)
    assert done.returncode == 8
    assert "2 of 2 workshop(s)" in done.stderr
    one, other = json.loads(done.stdout)
    assert one["name"] == "WKSHP-A" and "WKSHP-A/a.sh, line 1" in one["errors"][0]
    assert one["warnings"] == ["wod.yml: capacity is 20: its range 1 to 3 is smaller."]
    assert "duration is 'long'" in other["errors"][0]
    add(
        site,
        "ansible/production/variables_WKSHP-A.yml",
        "ONLY_HERE: 1\nSRVNAME: {1: a, 2: b, 3: c}\n",
        "private",
    )
    (site / "public/WKSHP-B/wod.yml").write_text("")
    done = validate(tmp_path / "state", **names)
    assert done.returncode == 0, done.stdout
    assert "WKSHP-A: 1 warning\n  warning: wod.yml: capacity" in done.stdout
    assert "WKSHP-B: good" in done.stdout
