"""The variables of a delivery: which file wins, what is sealed, and what is said when one cannot be had."""

import os
from pathlib import Path
from typing import Any

import pytest

from notebooks_loader import vault
from notebooks_loader.variables import Sources
from wodctl.adapters import configuration
from wodctl.adapters.passwords import Passwords
from wodctl.adapters.workshops import Workshops
from wodctl.errors import ConfigProblem, ContentProblem
from wodctl.model.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "open sesame"  # noqa: S105 - of the samples below
FIRST = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}\n'

# Both, and the file, were made by `ansible-vault` itself.
SEALED = """!vault |
          $ANSIBLE_VAULT;1.1;AES256
          61383434333930633364303061313365666130356466643136336330313738613236393032343766
          3831303234646162613462323061663230396664626564650a623134383065643030303764646632
          30383932303163646638343032396535383233313835633933306465623964633466306538633832
          6161366439393533360a396130313030306332613364356162646163386638313936353666613162
          3534
"""
LABELLED = """!vault |
          $ANSIBLE_VAULT;1.2;AES256;site
          33303464306361333263326333613936343739326661613533373637383463393231656562303130
          6561656165636335303766313138353932336666303766300a363737643435653534613831343531
          31653466333332633236346232323733366336623637366534646539383631336265313737643035
          3132303861353361380a643461633731343436303063313665303361306232383534346461373536
          6266
"""
WHOLE_FILE = """$ANSIBLE_VAULT;1.1;AES256
34373131336565303737613131633433366238346535656664616162313063336563326464353533
6262363738613763626466366430333763646365363562320a363232366330386639656530366131
35623466343935316665376234313237353031393561633966646137373134363636356132646562
3235333639333862650a323734303836313863663839626161616366343061326232343731313635
3966
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    """A site of the group `staging` with a public and a private folder, both empty."""
    for name in ("public", "private"):
        (tmp_path / name).mkdir()
    return Sources(
        {"BRANDING": "site"}, "staging", tmp_path / "public", tmp_path / "private", password=PASSWORD
    )


def test_each_file_beats_the_one_before_and_the_site_beats_all(sources: Sources, tmp_path: Path):
    """Group's variables, public and private workshop's, seat's, site's; another seat or workshop has no say."""
    layers = [
        "public/ansible/group_vars/all.yml",
        "public/ansible/group_vars/staging",
        "public/ansible/staging/variables_WKSHP-X.yml",
        "private/ansible/staging/variables_WKSHP-X.yml",
        "private/ansible/staging/pass/variables_WKSHP-X_3.yml",
    ]
    for number, layer in enumerate(layers):
        names = "".join(f"V{later}: {number}\n" for later in range(number, len(layers)))
        write(tmp_path / layer, f"{names}BRANDING: file\n")
    for other in (
        "staging/pass/variables_WKSHP-X_4",
        "production/variables_WKSHP-X",
        "staging/variables_WKSHP-Y",
    ):
        write(tmp_path / "private/ansible" / f"{other}.yml", "V0: other\n")
    assert sources.of("WKSHP-X", "WKSHP", 3) == {
        "BRANDING": "site", "V0": 0, "V1": 1, "V2": 2, "V3": 3, "V4": 4,
    }  # fmt: skip


def test_a_challenge_has_the_workshop_s_variables_and_its_own(sources: Sources, tmp_path: Path):
    """`CHLG-X` may say more than `WKSHP-X` in files of its own name."""
    folder = tmp_path / "private/ansible/staging"
    write(folder / "variables_WKSHP-X.yml", "A: workshop\nB: workshop\n")
    write(folder / "variables_CHLG-X.yml", "B: challenge\n")
    assert sources.of("WKSHP-X", "WKSHP", 3)["B"] == "workshop"
    found = sources.of("WKSHP-X", "CHLG", 3)
    assert (found["A"], found["B"]) == ("workshop", "challenge")


def test_a_template_stands_for_the_file_that_it_makes(sources: Sources, tmp_path: Path):
    """`.yml.j2` is rendered with the site's settings, and wins over a `.yml` that was left beside it."""
    folder = tmp_path / "private/ansible/staging"
    write(folder / "variables_WKSHP-X.yml", "A: stale\n")
    write(folder / "variables_WKSHP-X.yml.j2", "A: of {{ BRANDING }}\n")
    assert sources.of("WKSHP-X", "WKSHP", 3)["A"] == "of site"
    write(folder / "variables_WKSHP-X.yml.j2", "# first\nA: {{ NOWHERE }}\n")
    with pytest.raises(ContentProblem, match=r"variables_WKSHP-X\.yml\.j2, line 2: the variable 'NOWHERE'"):
        sources.of("WKSHP-X", "WKSHP", 3)


def test_what_ansible_sealed_is_opened(sources: Sources, tmp_path: Path):
    """Formats 1.1 and 1.2, at any depth, in the site's settings too; and a file that is sealed as a whole."""
    folder = tmp_path / "private/ansible/staging"
    write(folder / "pass/variables_WKSHP-X_3.yml", f"PASSSTU: {SEALED}DEEP:\n  LIST:\n    - {LABELLED}")
    write(folder / "variables_WKSHP-X.yml", WHOLE_FILE)
    site = configuration.read_overlay(
        write(tmp_path / "o/ansible/group_vars/g", f"S: {SEALED}").parents[2], "g"
    )
    [sealed] = [layer["variables"].value for layer in site if layer]
    found = Sources(sealed, "staging", None, tmp_path / "private", PASSWORD).of("WKSHP-X", "WKSHP", 3)
    assert found == {"PASSSTU": 's3cret "q"', "DEEP": {"LIST": ["tök"]}, "WHOLE": "file", "S": 's3cret "q"'}


@pytest.mark.parametrize(
    ("content", "password", "told"),
    [
        (f"A:\n  B: {SEALED.replace('          ', '            ')}", "", "pass/variables_WKSHP-X_3.yml: A.B is sealed "
         "and cannot be opened: no vault password is known"),
        (f"PASSSTU: {SEALED}", "wrong", "PASSSTU is sealed and cannot be opened: the vault password does not fit"),
        ("PASSSTU: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6138", PASSWORD, "PASSSTU is sealed and cannot be opened: "
         "it is damaged"),
        ("PASSSTU: !vault |\n  $ANSIBLE_VAULT;1.0;AES\n  6138", PASSWORD, "it begins with"),
        (WHOLE_FILE, "wrong", "variables_WKSHP-X_3.yml is sealed and cannot be opened"),
        ("PASSSTU: [s3cret\n", PASSWORD, "variables_WKSHP-X_3.yml, line 2: not YAML"),
        ("PASSSTU: !!python/object/apply:os.system [id]", PASSWORD, "line 1: not YAML"),
        ("- a", PASSWORD, "expected lines of `NAME: value`"),
        ("A: " + "x" * 1_100_000, PASSWORD, "more than 1024 KiB"),
        ("a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n"
         "c: &c [*b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c]\n"
         "e: &e [*d, *d, *d, *d, *d, *d, *d, *d]\nf: [*e, *e, *e, *e, *e, *e, *e, *e]\n", PASSWORD,
         "more than 100000 values"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_named_and_never_shown(
    sources: Sources, tmp_path: Path, content: str, password: str, told: str
):
    """The message names the file and the key, or the line, and holds nothing of a secret."""
    write(tmp_path / "private/ansible/staging/pass/variables_WKSHP-X_3.yml", content)
    with pytest.raises(ContentProblem) as caught:
        Sources({}, "staging", None, tmp_path / "private", password).of("WKSHP-X", "WKSHP", 3)
    assert told in caught.value.message
    assert "s3cret" not in caught.value.message + caught.value.hint


def test_a_file_cannot_lead_out_of_its_repository(sources: Sources, tmp_path: Path):
    """A link to a secret of ours is refused; one within the repository is followed."""
    write(tmp_path / "secret", "A: 1\n")
    folder = tmp_path / "private/ansible/staging"
    write(folder / "common.yml", "A: 2\n")
    (folder / "variables_WKSHP-X.yml").symlink_to("common.yml")
    assert sources.of("WKSHP-X", "WKSHP", 3)["A"] == 2
    (folder / "variables_WKSHP-X.yml").unlink()
    (folder / "variables_WKSHP-X.yml").symlink_to(tmp_path / "secret")
    with pytest.raises(ContentProblem, match="leads out of its repository"):
        sources.of("WKSHP-X", "WKSHP", 3)
    (folder / "variables_WKSHP-X.yml").unlink()
    os.mkfifo(folder / "variables_WKSHP-X.yml")
    assert "A" not in sources.of("WKSHP-X", "WKSHP", 3)


def test_the_password_is_what_the_first_file_holds(tmp_path: Path):
    """An empty or absent file leaves the word to the next."""
    empty, second = write(tmp_path / "a", "\n"), write(tmp_path / "b", "sesame\n")
    assert vault.password_from([tmp_path / "absent", empty, second]) == "sesame"
    assert vault.password_from([empty]) == ""


# --- The settings hold seals only ----


def site_of(tmp_path: Path, overlay: str) -> Settings:
    write(tmp_path / "private/ansible/group_vars/production", overlay)
    write(tmp_path / "state/conf/production.yml", f"WODPRIVDIR: {tmp_path}/private\n")
    return configuration.load(ROOT, tmp_path / "state", {}, {})[0]


def test_services_settings_hold_neither_secret_nor_password(tmp_path: Path):
    """`!vault` values stay sealed in what `up` renders, and VAULTPWD is left out."""
    settings = site_of(tmp_path, f"SEAL: {SEALED}VAULTPWD: {PASSWORD}\n")
    rendered = settings.to_json()
    assert PASSWORD not in rendered and "s3cret" not in rendered and "VAULTPWD" not in rendered
    path = write(tmp_path / "settings.json", rendered)
    found = Sources(Settings.from_json(path).variables, "production", password=PASSWORD)
    assert found.of("WKSHP-X", "WKSHP", 3)["SEAL"] == 's3cret "q"'


def test_an_overlay_that_is_sealed_as_a_whole_is_refused_with_advice(tmp_path: Path):
    """Settings must be readable without the vault's password."""
    with pytest.raises(ConfigProblem, match="sealed as a whole") as caught:
        site_of(tmp_path, WHOLE_FILE)
    assert "encrypt_string" in caught.value.hint


# --- From the files to the home ----


@pytest.fixture
def workshops(tmp_path: Path) -> Workshops:
    """A site with a public workshop WKSHP-X, a skeleton, and a private repository that adds to both."""
    public, private = tmp_path / "public", tmp_path / "private"
    write(public / "WKSHP-X/0-ReadMeFirst.ipynb", FIRST)
    write(public / "WKSHP-X/env.sh", "{{ PASSSTU }} {{ SRVNAME[STDID] }}\n")
    write(public / "skel/.profile", "public\n")
    write(public / "skel/.bashrc", "public\n")
    write(private / "skel/.profile", "private\n")
    write(private / "notebooks/WKSHP-Own/0-ReadMeFirst.ipynb", FIRST)
    write(private / "ansible/vault_secret", PASSWORD + "\n")
    write(private / "ansible/production/variables_WKSHP-X.yml", "SRVNAME:\n  3: three\n  4: four\n")
    write(private / "ansible/production/pass/variables_WKSHP-X_3.yml", f"PASSSTU: {SEALED}")
    settings = configuration.load(ROOT, tmp_path / "state", {}, {})[0]
    return Workshops(settings, public, private, public / "skel")


def fill(workshops: Workshops, home: Path, name: str = "WKSHP-X", seat: int = 3) -> list[str]:
    home.mkdir()
    workshops.furnish(home, os.geteuid(), os.getegid())
    return workshops.fill(home, workshops.workshop(name), "WKSHP", seat, os.geteuid(), os.getegid())


def test_a_home_has_the_private_overlay_s_values_and_files(workshops: Workshops, tmp_path: Path):
    """Sealed and seat-keyed values are in the workshop; the private skeleton lies over the public one."""
    assert fill(workshops, tmp_path / "home") == []
    assert (tmp_path / "home/WKSHP-X/env.sh").read_text() == 's3cret "q" three\n'
    assert (tmp_path / "home/.profile").read_text() == "private\n"
    assert (tmp_path / "home/.bashrc").read_text() == "public\n"


def test_a_private_workshop_is_delivered(workshops: Workshops, tmp_path: Path):
    """It comes from the private repository's `notebooks`."""
    fill(workshops, tmp_path / "home", "WKSHP-Own")
    assert (tmp_path / "home/WKSHP-Own/0-ReadMeFirst.ipynb").read_text() == FIRST


def test_a_sealed_value_that_cannot_be_opened_stops_the_delivery(workshops: Workshops, tmp_path: Path):
    """Nothing of the workshop is in the home then."""
    write(tmp_path / "private/ansible/vault_secret", "wrong")
    with pytest.raises(ContentProblem, match="PASSSTU is sealed and cannot be opened"):
        fill(workshops, tmp_path / "home")
    assert not (tmp_path / "home/WKSHP-X").exists()


def test_the_site_s_password_file_beats_the_repository_s(workshops: Workshops, tmp_path: Path):
    """What the operator put into the state directory is what counts."""
    given = write(tmp_path / "vault-password", "wrong")
    found: Any = Workshops(workshops.settings, workshops.public, workshops.private, None, [given])
    with pytest.raises(ContentProblem, match="does not fit"):
        found.variables().of("WKSHP-X", "WKSHP", 3)


def test_a_notebook_that_is_no_json_is_delivered_with_a_word_of_warning(workshops: Workshops, tmp_path: Path):
    """As it is, byte for byte: one public workshop ships such a file."""
    write(tmp_path / "public/WKSHP-X/1-broken.ipynb", '{"cells": "un"escaped"}')
    warnings = fill(workshops, tmp_path / "home")
    assert warnings == [
        "WKSHP-X/1-broken.ipynb, line 1 of what it is rendered to: not JSON: Expecting ',' delimiter."
    ]
    assert (tmp_path / "home/WKSHP-X/1-broken.ipynb").read_text() == '{"cells": "un"escaped"}'


def test_the_password_of_the_seat_is_above_the_files_and_leaves_the_rest_of_them(
    workshops: Workshops, tmp_path: Path
):
    """A file of a former lease shows nobody a password that opens nothing; its other values count."""
    home = tmp_path / "home"
    home.mkdir()
    workshop = workshops.workshop("WKSHP-X")
    assert workshops.shows_password(workshop)
    assert not workshops.shows_password(workshops.workshop("WKSHP-Own"))
    workshops.fill(home, workshop, "WKSHP", 3, os.geteuid(), os.getegid(), values={"PASSSTU": "fresh"})
    assert (home / "WKSHP-X/env.sh").read_text() == "fresh three\n"


def test_passwords_are_kept_for_one_lease_and_for_us_alone(tmp_path: Path):
    """Nobody else reads them, the next customer has another, and the lease's end forgets all of a seat's."""
    passwords = Passwords(tmp_path)
    passwords.forget(3)
    passwords.keep(3, 17, "first")
    passwords.keep(3, 17, "second")
    passwords.keep(33, 17, "other")
    assert passwords.kept(3, 17) == "second"
    assert passwords.kept(3, 18) is None
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*-17")}
    assert modes == {0o600}
    assert (tmp_path / ".passwords").stat().st_mode & 0o777 == 0o700
    passwords.forget(3)
    assert passwords.kept(3, 17) is None
    assert passwords.kept(33, 17) == "other"
