"""A workshop kept rendered for its author: what changes, what stays, what he is told."""

import json
import os
import threading
import time
from pathlib import Path

import pytest

from notebooks_loader.preview import STATUS_PAGE, Preview

PAGE = '{"cells": [], "metadata": {"for": "{{ MODEWS }} {{ STDID }}"}, "nbformat": 4, "nbformat_minor": 5}'


def nothing(mode: str, seat: int) -> dict[str, str]:
    """A site without variables."""
    return {}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A workshop with a first page, a script and a folder with a file that is no template."""
    folder = tmp_path / "notebooks" / "WKSHP-X"
    (folder / "Data").mkdir(parents=True)
    (folder / "0-ReadMeFirst.ipynb").write_text(PAGE)
    (folder / "go.sh").write_text("echo {{ STDID }}\n")
    (folder / "Data/plain.txt").write_text("{{ not a template }}")
    return folder


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    (tmp_path / "desk").mkdir()
    return tmp_path / "desk"


def test_each_view_is_what_its_participant_gets(source, desk):
    """As student 1, as a challenge, as student 20; what comes with each delivery too."""
    assert Preview(source, nothing, desk).show() == []
    for folder, mode, seat in (
        ("as-student1", "WKSHP", 1),
        ("as-challenge", "CHLG", 1),
        ("as-student20", "WKSHP", 20),
    ):
        shown = desk / folder / "WKSHP-X"
        assert json.loads((shown / "0-ReadMeFirst.ipynb").read_text())["metadata"]["for"] == f"{mode} {seat}"
        assert (shown / "go.sh").read_text() == f"echo {seat}\n" and os.access(shown / "go.sh", os.X_OK)
        assert (shown / "Data/plain.txt").read_text() == "{{ not a template }}"
        assert (shown / "wod-generate-pdf.sh").exists()


def test_only_what_changed_is_replaced(source, desk):
    """Folders and unchanged files stay the very same, with what cells made of them; removed files go."""
    preview = Preview(source, nothing, desk)
    preview.show()
    shown = desk / "as-student1" / "WKSHP-X"
    kept = [shown, shown / "Data", shown / "0-ReadMeFirst.ipynb"]
    before = [path.stat().st_ino for path in kept]
    (shown / "Data/plain.txt").write_text("written by a cell")
    (shown / "Data/new.txt").write_text("made by a cell")
    (source / "go.sh").write_text("echo changed\n")
    (source / "more.sh").write_text("echo more\n")
    preview.show()
    assert [path.stat().st_ino for path in kept] == before
    assert (shown / "go.sh").read_text() == "echo changed\n"
    assert (shown / "Data/plain.txt").read_text() == "written by a cell"
    (source / "more.sh").unlink()
    preview.show()
    assert not (shown / "more.sh").exists() and (shown / "Data/new.txt").exists()


def test_a_file_may_become_a_folder_or_a_link(source, desk):
    """Whatever an entry was before, it becomes what it is now."""
    preview = Preview(source, nothing, desk)
    shown = desk / "as-student1" / "WKSHP-X" / "thing"
    (source / "thing").write_text("a file")
    preview.show()
    (source / "thing").unlink()
    (source / "thing").mkdir()
    (source / "thing/inside.txt").write_text("inside")
    preview.show()
    assert (shown / "inside.txt").read_text() == "inside"
    (source / "thing/inside.txt").unlink()
    (source / "thing").rmdir()
    (source / "thing").symlink_to("go.sh")
    assert preview.show() == [] and shown.is_symlink()
    (source / "thing").unlink()
    (source / "thing").write_text("a file")
    preview.show()
    assert shown.read_text() == "a file" and not shown.is_symlink()


def test_notebooks_are_read_only(source, desk):
    """Nobody writes for an hour into a copy that the next save replaces."""
    Preview(source, nothing, desk).show()
    assert (desk / "as-student1/WKSHP-X/0-ReadMeFirst.ipynb").stat().st_mode & 0o222 == 0


def test_every_mistake_is_told_and_the_last_good_state_stays(source, desk):
    """All of them at once, in words that Markdown does not swallow; once they are mended, that all is good."""
    preview = Preview(source, nothing, desk)
    preview.show()
    (source / "go.sh").write_text("{{ NOBODY }} <b>")
    (source / "1-WKSHP-A.ipynb").write_text("{ no JSON")
    problems = preview.show()
    assert len(problems) == 2
    page = (desk / STATUS_PAGE).read_text()
    assert "2 errors" in page and "&#x27;NOBODY&#x27; is not defined" in page and "1-WKSHP-A.ipynb" in page
    assert (desk / "as-student1/WKSHP-X/go.sh").read_text() == "echo 1\n"
    (source / "go.sh").write_text("echo\n")
    (source / "1-WKSHP-A.ipynb").unlink()
    assert preview.show() == [] and ": good**" in (desk / STATUS_PAGE).read_text()


def test_a_seat_without_its_value_does_not_hide_the_others(source, desk):
    """Student 20 lacks a value: student 1 is shown, and the mistake is told."""
    (source / "go.sh").write_text("echo {{ PORTS[STDID] }}\n")
    problems = Preview(source, lambda mode, seat: {"PORTS": {"1": 8001}}, desk).show()
    assert problems and (desk / "as-student1/WKSHP-X/go.sh").read_text() == "echo 8001\n"
    assert not (desk / "as-student20/WKSHP-X/go.sh").exists()


def test_a_broken_description_or_folder_does_not_end_it(source, desk):
    """A wod.yml that is no YAML, and a folder that is away for a moment, are told like any mistake."""
    preview = Preview(source, nothing, desk)
    (source / "wod.yml").write_text("range: [")
    assert "wod.yml" in preview.show()[0].text
    source.rename(source.with_name("away"))
    assert preview.show() != []
    source.with_name("away").rename(source)
    (source / "wod.yml").unlink()
    assert preview.show() == []


def test_a_save_is_noticed_whatever_the_editor_does(source, desk):
    """Written in place, replaced by a new file, or written in pieces: shown within a second, once."""
    said: list[str] = []
    preview = Preview(source, nothing, desk)
    threading.Thread(target=preview.watch, args=(said.append,), daemon=True).start()
    shown = desk / "as-student1/WKSHP-X/go.sh"

    def wait_until_shown(text: str) -> None:
        until = time.monotonic() + 30
        while not (shown.exists() and shown.read_text() == text):
            assert time.monotonic() < until, said
            time.sleep(0.01)

    wait_until_shown("echo 1\n")
    (source / "go.sh").write_text("in place\n")
    wait_until_shown("in place\n")
    (source / ".go.sh.swp").write_text("replaced\n")
    (source / ".go.sh.swp").replace(source / "go.sh")
    wait_until_shown("replaced\n")
    with (source / "go.sh").open("w") as file:
        for piece in ("{{ 'in", " pie", "ces' }}\n"):
            file.write(piece)
            file.flush()
    wait_until_shown("in pieces\n")
