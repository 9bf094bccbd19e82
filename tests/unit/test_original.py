"""Reading what an original's registration database holds, and which backends are served."""

import dataclasses
from pathlib import Path

import pytest

from wodctl.adapters.configuration import load
from wodctl.adapters.original import rows_of_dump
from wodctl.commands.stack import settings_of, up
from wodctl.errors import ConfigProblem, ContentProblem
from wodctl.model.backend import Backend, backends
from wodctl.model.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DUMP = """--
-- PostgreSQL database dump
--
COPY public.workshops (id, name, notebook, description, range, category, active) FROM stdin;
3\tPython 101\tWKSHP-Python101\ttwo\\nlines and a \\\\ tab\\t.\t{52,57}\t{"Open Source"}\tt
\\.

COPY public.users (id, username, password) FROM stdin;
1\tmoderator\t$2b$10$hash
\\.

COPY public.students (id, url, username, password, assigned, location) FROM stdin;
1\thttp://b:8000/user/student1/lab?\tstudent1\tclear-text\tf\tb
2\t\\N\tstudent2\tclear-text\tt\tb
\\.
"""


def test_a_dump_is_read_without_passwords_and_users(tmp_path: Path) -> None:
    """COPY's escapes are undone, \\N is nothing, what is secret stays where it is."""
    (tmp_path / "dump.sql").write_text(DUMP)
    rows = rows_of_dump(tmp_path / "dump.sql")
    assert set(rows) == {"workshops", "students"}
    assert rows["workshops"][0]["description"] == "two\nlines and a \\ tab\t."
    assert rows["students"][1] == {
        "id": "2",
        "url": None,
        "username": "student2",
        "assigned": "t",
        "location": "b",
    }


def test_a_file_that_is_no_dump_is_refused(tmp_path: Path) -> None:
    """With what was expected."""
    (tmp_path / "x").write_text("PGDMP\0binary")
    with pytest.raises(ContentProblem, match="no table of workshops"):
        rows_of_dump(tmp_path / "x")


def served(**chosen: str) -> list[Backend]:
    return backends(load(ROOT, ROOT / "nowhere", chosen, {})[0])


def test_each_backend_has_students_of_its_own() -> None:
    """WODUSERMAX apart, unless they are given their first number and how many."""
    found = served(
        WODBACKENDS="a.example.net,b.example.net:443:https,c.example.net:8000:http:1000:30", WODUSERMAX="50"
    )
    assert [dataclasses.astuple(one) for one in found] == [
        ("a.example.net", 8000, "http", 0, 1, 50),
        ("b.example.net", 443, "https", 50, 1, 50),
        ("c.example.net", 8000, "http", 1000, 1, 30),
    ]
    assert served(WODBEFQDN="own.example.net", WODBENBR="2", WODUSERMAX="20") == [
        Backend("own.example.net", 8000, "http", 40, 1, 20)
    ]


def test_a_backend_s_number_is_its_place_in_the_list_of_the_api() -> None:
    """`up -t api-db -b a,b,c` gives each the students that `up -n 1`, `-n 2` and `-n 3` there call their own."""

    def settings(*words: str) -> Settings:
        return load(ROOT, ROOT / "nowhere", {}, settings_of(up.make_context("up", [*words]).params))[0]

    at_the_api = backends(
        settings("-t", "api-db", "-b", "a.example.net,b.example.net:443:https,c.example.net")
    )
    for number, one in enumerate(at_the_api, 1):
        own = settings("-b", f"{one.name}:{one.port}", "-n", str(number))
        assert own.WODBASESTDID == one.base == (number - 1) * own.WODUSERMAX


@pytest.mark.parametrize("given", ["a,b:8000:http:40", "a,a", "a:8000:http:0:60,b:8000:http:59"])
def test_backends_that_would_share_students_are_refused(given: str) -> None:
    """Before anything is started."""
    with pytest.raises(ConfigProblem, match="WODBACKENDS"):
        served(WODBACKENDS=given, WODUSERMAX="50")


def test_a_whole_service_tells_its_own_registration_api() -> None:
    """WODTYPE all turns the worker's reports on."""
    assert load(ROOT, ROOT / "nowhere", {"WODTYPE": "all"}, {})[0].WODAPIDB is True
    assert load(ROOT, ROOT / "nowhere", {}, {})[0].WODAPIDB is False
