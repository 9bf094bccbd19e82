"""A folder put into a home where somebody works, who may do there what he likes meanwhile."""

import os
import threading
from pathlib import Path

import pytest

from wodctl.adapters.homes import Homes
from wodctl.errors import ContentProblem


@pytest.fixture
def homes(tmp_path: Path) -> Homes:
    made = Homes(tmp_path / "students")
    (tmp_path / "students").mkdir()
    made.ensure_tidy()
    (tmp_path / "students/student3").mkdir()
    return made


def filled(text: str):
    def fill(path: Path) -> None:
        (path / "WKSHP-X").mkdir()
        for name in ("a", "b"):
            (path / "WKSHP-X" / name).write_text(text)

    return fill


def test_a_folder_is_there_whole_and_the_former_one_is_gone(homes: Homes, tmp_path: Path):
    """Twice, and nothing is left in the working directories."""
    home = tmp_path / "students/student3"
    (home / "notes.txt").write_text("mine")
    for text in ("one", "two"):
        homes.replace("student3", "WKSHP-X", filled(text))
        assert {path.read_text() for path in (home / "WKSHP-X").iterdir()} == {text}
        (home / "WKSHP-X" / "left").mkdir()
    assert (home / "notes.txt").read_text() == "mine"
    assert os.listdir(tmp_path / "students/.staging") == os.listdir(tmp_path / "students/.trash") == []


@pytest.mark.parametrize("kind", ["link", "file", "dangling link", "pipe"])
def test_what_is_in_its_place_is_followed_nowhere(homes: Homes, tmp_path: Path, kind: str):
    """A link that the participant laid goes; what it points to stays as it is."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    place = tmp_path / "students/student3/WKSHP-X"
    if kind == "file":
        place.write_text("x")
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to(elsewhere if kind == "link" else "nowhere")
    homes.replace("student3", "WKSHP-X", filled("one"))
    assert not place.is_symlink() and (place / "a").read_text() == "one"
    assert os.listdir(elsewhere) == ["kept"]
    assert os.listdir(tmp_path / "students/.staging") == []


def test_what_cannot_be_filled_leaves_the_former_folder(homes: Homes, tmp_path: Path):
    """A workshop that cannot be rendered, for example."""
    homes.replace("student3", "WKSHP-X", filled("one"))

    def fails(path: Path) -> None:
        filled("two")(path)
        raise ContentProblem("no")

    with pytest.raises(ContentProblem):
        homes.replace("student3", "WKSHP-X", fails)
    assert (tmp_path / "students/student3/WKSHP-X/a").read_text() == "one"
    assert os.listdir(tmp_path / "students/.staging") == []


def test_whoever_looks_sees_the_old_folder_or_the_new_one(homes: Homes, tmp_path: Path):
    """At every moment, while one delivery follows the other."""
    homes.replace("student3", "WKSHP-X", filled("0"))
    folder, stop, wrong = tmp_path / "students/student3/WKSHP-X", threading.Event(), []

    def look() -> None:
        while not stop.is_set():
            here = os.open(folder, os.O_RDONLY)
            texts = []
            for name in ("a", "b"):
                try:
                    with open(os.open(name, os.O_RDONLY, dir_fd=here)) as file:
                        texts.append(file.read())
                except FileNotFoundError:  # the old one is being taken apart under our eyes
                    texts = []
                    break
            if len(set(texts)) > 1:
                wrong.append(texts)
            os.close(here)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for number in range(1, 60):
            homes.replace("student3", "WKSHP-X", filled(str(number)))
    finally:
        stop.set()
        looking.join()
    assert wrong == []
    assert looking.is_alive() is False


def test_a_participant_who_moves_things_about_meanwhile_gains_nothing(homes: Homes, tmp_path: Path):
    """He swaps the folder with a link to elsewhere as fast as he can."""
    home, elsewhere = tmp_path / "students/student3", tmp_path / "elsewhere"
    elsewhere.mkdir()
    stop = threading.Event()

    def play() -> None:
        while not stop.is_set():
            for deed in (
                lambda: (home / "WKSHP-X").rename(home / "aside"),
                lambda: (home / "WKSHP-X").symlink_to(elsewhere),
                lambda: (home / "WKSHP-X").unlink(),
                lambda: (home / "aside").rename(home / "WKSHP-X"),
            ):
                try:
                    deed()
                except OSError:
                    continue

    playing = threading.Thread(target=play)
    playing.start()
    try:
        for number in range(100):
            homes.replace("student3", "WKSHP-X", filled(str(number)))
    finally:
        stop.set()
        playing.join()
    assert os.listdir(elsewhere) == []
    assert os.listdir(tmp_path / "students/.staging") == []
