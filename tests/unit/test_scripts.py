"""Scripts of a site: their names, what they are told, what is taken from them; no engine."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.unit.test_variables import PASSWORD, SEALED
from wodctl.adapters import configuration
from wodctl.adapters.scripts import Place, Scripts, problems
from wodctl.adapters.workshops import Workshops
from wodctl.errors import ActionFailed, ContentProblem
from wodctl.model import scripts as model
from wodctl.model.scripts import Occasion

PLAIN = 's3cret "q"'
SEAT = Occasion(17, os.getuid(), os.getgid(), "WKSHP-X", "Sesame-open-17")


class Engine:
    """Runs nothing; `acts` is what a container does in the folder `made`."""

    def __init__(self, status: int = 0, output: str = "") -> None:
        self.status, self.said = status, output
        self.documents: list[Mapping[str, Any]] = []
        self.absent: list[str] = []
        self.acts: Any = lambda: None

    def start(self, name: str, document: Mapping[str, Any]) -> None:
        self.documents.append(document)
        self.acts()

    def wait(self, name: str, seconds: float) -> int | None:
        return self.status

    def output(self, name: str) -> str:
        return self.said

    def ensure_absent(self, name: str) -> None:
        self.absent.append(name)


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def scripts(tmp_path: Path, engine: Engine) -> Scripts:
    write(tmp_path / "private/notebooks/WKSHP-X/wod.yml", "range: [1, 20]\n")
    (tmp_path / "layouts").mkdir()
    settings = configuration.load(ROOT, tmp_path, {}, {})[0]
    place = Place(
        "wod", "/state", "lab", "compiler", tmp_path / "layouts", tmp_path / "public", tmp_path / "secrets"
    )
    return Scripts(settings, Workshops(settings, tmp_path / "none", tmp_path / "private"), engine, place)  # type: ignore[arg-type]


def write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _left(tmp_path: Path) -> list[str]:
    """What is left of layouts, and in their trash."""
    return [path.name for path in (tmp_path / "layouts").glob("**/*") if path.name != ".trash"]


def workshop(tmp_path: Path) -> Any:
    settings = configuration.load(ROOT, tmp_path, {}, {})[0]
    return Workshops(settings, tmp_path / "none", tmp_path / "private").workshop("WKSHP-X")


def test_scripts_run_in_the_order_public_then_private(scripts: Scripts, tmp_path: Path) -> None:
    """By the names that existing repositories have; a challenge has the scripts of its workshop."""
    write(tmp_path / "private/scripts/create-WKSHP-X.sh", "", 0o755)
    write(tmp_path / "public/create-WKSHP-X.sh.j2", "")
    write(tmp_path / "private/scripts/post-templating.sh", "", 0o755)
    folder = replace(SEAT, workshop="CHLG-X").folder
    assert [script.name for script in scripts.named("create", folder)] == [
        "public create-WKSHP-X.sh",
        "private create-WKSHP-X.sh",
    ]
    assert [script.path for script in scripts.named("post-templating", folder)] == [
        "/srv/wod/private/scripts/post-templating.sh"
    ]
    assert scripts.named("cleanup", folder) == []


def test_a_script_that_is_not_executable_is_no_silent_gap(scripts: Scripts, tmp_path: Path) -> None:
    """The original passed it over; whoever wrote it meant it to run."""
    write(tmp_path / "private/scripts/create-WKSHP-X.sh", "")
    with pytest.raises(ContentProblem, match=r"private script create-WKSHP-X\.sh is not executable"):
        scripts.named("create", "WKSHP-X")


@pytest.mark.parametrize(
    ("address", "flags", "expected"),
    [
        ("10.1.2.30", {"monoappliance": True}, "10.1.2.30"),
        ("10.1.2.30", {}, "10.1.2.30"),
        ("10.1.2.30", {"monoappliance": False}, None),
        ("10.1.2.30", {"multiappliance": True, "range": (11, 20)}, "10.1.2.36"),
        ("10.1.2.250", {"multiappliance": True, "range": (1, 20)}, None),
        ("x.y.z.t", {"monoappliance": True}, None),
        (None, {"monoappliance": True}, None),
    ],
)
def test_the_appliance_is_where_the_site_says(
    address: str | None, flags: dict[str, Any], expected: str | None
) -> None:
    """One for all, or counted up from the first seat; no carry into the third number, no placeholder."""
    metadata = SimpleNamespace(**({"monoappliance": None, "multiappliance": None, "range": None} | flags))
    assert model.appliance_address({"IP-WKSHP-X": address}, metadata, SEAT) == expected


def test_the_network_is_for_the_workshops_that_the_site_names(scripts: Scripts, tmp_path: Path) -> None:
    """None by default."""
    settings = configuration.load(ROOT, tmp_path, {}, {})[0]
    assert not model.may_use_network(settings, SEAT)
    for names in ("WKSHP-Y,WKSHP-X", "all"):
        named = configuration.load(ROOT, tmp_path, {}, {"WODSCRIPTNETWORK": names})[0]
        assert model.may_use_network(named, replace(SEAT, workshop="CHLG-X"))


def test_an_output_shows_no_secret_and_orders_no_terminal(
    scripts: Scripts, engine: Engine, tmp_path: Path
) -> None:
    """Passwords, the operator's files line by line, values that were sealed; the end of long ones."""
    write(tmp_path / "secrets/key", "-----BEGIN-----\nline one of the key\n")
    write(tmp_path / "private/scripts/create-WKSHP-X.sh.j2", "{{ FLAG }}")
    write(tmp_path / "private/ansible/vault_secret", PASSWORD)
    write(tmp_path / "private/ansible/production/variables_WKSHP-X.yml", f"FLAG: {SEALED}")
    engine.said = (
        "x" * 20_000
        + f"\n{SEAT.password} line one of the key \x1b[2Jred\x07\x00 {PLAIN} {PASSWORD}\r\n\tend\n"
    )
    [script] = scripts.named("create", "WKSHP-X")
    with scripts.at(SEAT) as desk:
        ran = desk.run(script, workshop(tmp_path), None)
    assert ran.output.endswith("\n(secret) (secret) [2Jred (secret) (secret)\n\tend\n")
    assert len(ran.output) == 16 * 1024


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "nothing", "large"])
def test_a_program_is_taken_only_if_it_is_a_file(
    scripts: Scripts, engine: Engine, tmp_path: Path, kind: str
) -> None:
    """What a container made is as hostile as what it ran."""
    write(tmp_path / "public/get.shc", "#!/bin/bash\n")
    home, program = tmp_path / "home", tmp_path / "layouts/student17/made/get.shc.x"
    home.mkdir()

    def act() -> None:
        if kind == "link":
            program.symlink_to("/etc/shadow")
        elif kind == "pipe":
            os.mkfifo(program)
        elif kind == "folder":
            program.mkdir()
        elif kind == "large":
            with program.open("wb") as file:
                file.truncate(2**30)

    engine.acts = act
    with pytest.raises(ContentProblem, match=r"get\.shc\.x"), scripts.at(SEAT) as desk:
        desk.compile(("get.shc",), workshop(tmp_path), home)
    assert os.listdir(home) == []
    assert _left(tmp_path) == []


def test_a_compiler_that_fails_says_why(scripts: Scripts, engine: Engine, tmp_path: Path) -> None:
    """Its words are the reason, and nothing is left."""
    write(tmp_path / "public/get.shc", "#!/bin/bash\n")
    engine.status, engine.said = 1, "get.shc: no good\n"
    with (
        pytest.raises(ActionFailed, match=r"get\.shc could not be compiled: get\.shc: no good"),
        scripts.at(SEAT) as desk,
    ):
        desk.compile(("get.shc",), workshop(tmp_path), tmp_path)
    assert _left(tmp_path) == []


def test_what_a_killed_worker_laid_out_goes_after_its_container(
    scripts: Scripts, engine: Engine, tmp_path: Path
) -> None:
    """In this order: what still runs there must not run in a folder that is half gone."""
    write(tmp_path / "layouts/student17/site/secrets/randompw", "x")
    engine.ensure_absent = lambda name: engine.absent.append(  # type: ignore[method-assign]
        name if (tmp_path / "layouts/student17/site").exists() else "too late"
    )
    scripts.ensure_tidy()
    assert engine.absent == ["wod-script17"]
    assert _left(tmp_path) == []


def test_what_a_script_leaves_behind_is_removed_however_deep_it_is(
    scripts: Scripts, engine: Engine, tmp_path: Path
) -> None:
    """A tree deeper than the files that we may open, and links that lead elsewhere."""
    write(tmp_path / "kept", "ours")
    write(tmp_path / "private/scripts/create-WKSHP-X.sh", "", 0o755)

    def act() -> None:
        made = tmp_path / "layouts/student17/made"
        (made / "link").symlink_to(tmp_path)
        folder = os.open(made, os.O_RDONLY)
        for _ in range(5000):
            os.mkdir("a", dir_fd=folder)
            below = os.open("a", os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder = below
        os.close(folder)

    engine.acts = act
    [script] = scripts.named("create", "WKSHP-X")
    with scripts.at(SEAT) as desk:
        desk.run(script, workshop(tmp_path), None)
    assert _left(tmp_path) == []
    assert (tmp_path / "kept").read_text() == "ours"


def test_validation_tells_what_would_stop_the_actions(tmp_path: Path, scripts: Scripts) -> None:
    """Before a participant waits: `compile` without its script, scripts that cannot be run."""
    write(tmp_path / "private/notebooks/WKSHP-X/wod.yml", "compile: there.shc,none.shc\n")
    write(tmp_path / "private/scripts/there.shc", "")
    write(tmp_path / "private/scripts/reset-WKSHP-X.sh", "")
    write(tmp_path / "public/create-WKSHP-X.sh.j2", "")
    found = problems(workshop(tmp_path), [tmp_path / "public", tmp_path / "private/scripts"])
    assert [text.partition(",")[0] for text in found] == [
        f"The script {tmp_path}/private/scripts/reset-WKSHP-X.sh is not executable",
        "wod.yml: compile names none.shc",
    ]


def test_a_script_that_cannot_be_rendered_stops_only_its_own_workshop(
    scripts: Scripts, tmp_path: Path
) -> None:
    """Others may need variables that this one does not have."""
    write(tmp_path / "public/create-WKSHP-Other.sh.j2", "{{ NOTHERE }}")
    write(tmp_path / "public/create-WKSHP-X.sh.j2", "{{ STDID }}")
    [script] = scripts.named("create", "WKSHP-X")
    with scripts.at(SEAT) as desk:
        assert desk.run(script, workshop(tmp_path), None).status == 0
    write(tmp_path / "public/create-WKSHP-X.sh.j2", "{{ NOTHERE }}")
    with pytest.raises(ContentProblem, match="NOTHERE"), scripts.at(SEAT) as desk:
        desk.run(script, workshop(tmp_path), None)
    assert _left(tmp_path) == []


def test_the_secrets_of_a_workshop_are_files_that_only_its_participant_reads(
    tmp_path: Path, scripts: Scripts
) -> None:
    """The site's value, or one made by chance for this lease."""
    write(tmp_path / "private/notebooks/WKSHP-X/wod.yml", "secrets: [APITOKEN, MADEUP]\n")
    write(tmp_path / "private/ansible/production/variables_WKSHP-X.yml", "APITOKEN: of the site\n")
    settings = configuration.load(ROOT, tmp_path, {}, {})[0]
    workshops = Workshops(settings, tmp_path / "none", tmp_path / "private")
    made = []
    for name in ("one", "two"):
        home = tmp_path / name
        home.mkdir()
        workshops.give_secrets(home, workshop(tmp_path), "WKSHP", 3, os.getuid(), os.getgid())
        folder = home / ".wod/secrets"
        assert (folder / "APITOKEN").read_text() == "of the site"
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o400}
        assert folder.stat().st_mode & 0o777 == 0o700
        made.append((folder / "MADEUP").read_text())
    assert len(made[0]) == 32
    assert made[0] != made[1]


@pytest.mark.parametrize("secrets", ["[a/b]", "[A, A]", "['']", "['1x']", "../x"])
def test_odd_names_of_secrets_are_refused(tmp_path: Path, scripts: Scripts, secrets: str) -> None:
    """A name becomes the name of a file."""
    write(tmp_path / "private/notebooks/WKSHP-X/wod.yml", f"secrets: {secrets}\n")
    with pytest.raises(ContentProblem, match=r"wod\.yml: secrets"):
        workshop(tmp_path)
