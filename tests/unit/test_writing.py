"""A workshop's beginning and its README, as an author gets them from the command line."""

import json
import stat
from pathlib import Path

import pytest

from tests.unit.test_command_line import wodctl

ROOT = Path(__file__).resolve().parents[2]


def make(tmp_path: Path, name: str = "Git101") -> Path:
    made = wodctl("workshop", "new", str(tmp_path / name), state=tmp_path / "state")
    assert made.returncode == 0, made.stderr
    return tmp_path / "WKSHP-Git101"


@pytest.mark.parametrize("name", ["Git101", "WKSHP-Git101"])
def test_a_new_workshop_is_complete_and_can_be_delivered(tmp_path, name):
    """`workshop new` makes metadata, a first page with a picture, two notebooks and a licence, all valid."""
    folder = make(tmp_path, name)
    assert sorted(path.name for path in folder.iterdir()) == [
        "0-ReadMeFirst.ipynb",
        "1-WKSHP-First-steps.ipynb",
        "2-WKSHP-Conclusion.ipynb",
        "LICENSE.md",
        "Pictures",
        "wod.yml",
    ]
    done = wodctl("workshop", "validate", str(folder), state=tmp_path / "state")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "WKSHP-Git101: good")
    texts = "".join(path.read_text() for path in folder.glob("*.*"))
    assert "Git101" in texts and "Template101" not in texts
    picture = "Pictures/way.svg"
    assert picture in (folder / "0-ReadMeFirst.ipynb").read_text() and (folder / picture).is_file()


def test_a_new_workshop_is_not_offered_yet(tmp_path):
    """Nobody can register for it until its author says so."""
    assert "\nactive: false\n" in (make(tmp_path) / "wod.yml").read_text()


def test_what_is_there_is_not_overwritten(tmp_path):
    """A second `workshop new` of the same name is refused and changes nothing."""
    folder = make(tmp_path)
    (folder / "mine.txt").write_text("mine")
    done = wodctl("workshop", "new", str(tmp_path / "Git101"), state=tmp_path / "state")
    assert done.returncode == 8 and "is there already" in done.stderr
    assert (folder / "mine.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir() if path.name != "state"] == ["WKSHP-Git101"]


def test_a_name_that_no_mail_can_carry_is_refused(tmp_path):
    """The rules for names are those of the action mails."""
    done = wodctl("workshop", "new", str(tmp_path / "my first"), state=tmp_path / "state")
    assert done.returncode == 8 and "no name of a workshop" in done.stderr
    assert not list(tmp_path.glob("WKSHP*"))


def test_the_readme_is_the_first_page_as_a_workshop(tmp_path):
    """Texts as they are, code in fences, no outputs, the default branding, no trace of this host."""
    folder = make(tmp_path)
    page = folder / "0-ReadMeFirst.ipynb"
    notebook = json.loads(page.read_text())
    notebook["cells"].append(
        {"cell_type": "markdown", "metadata": {}, "source": "on {{ WODBEEXTFQDN }} as {{ STDID }}"}
    )
    notebook["cells"].append(
        {"cell_type": "code", "metadata": {}, "source": ["print(1)\n", "'```'"], "outputs": [{"text": "OUT"}]}
    )
    notebook["cells"].append({"cell_type": "raw", "metadata": {}, "source": "RAW"})
    page.write_text(json.dumps(notebook))
    site = tmp_path / "state" / "conf" / "production.yml"
    site.parent.mkdir(parents=True)
    site.write_text("BRANDING: This very site\n")
    done = wodctl("workshop", "readme", str(folder), state=tmp_path / "state")
    assert done.returncode == 0, done.stderr
    text = (folder / "README.md").read_text()
    assert text.startswith(
        "![logo](Pictures/logo.png)\n\n# Workshop: Git101\n\n**Brought to you by [Workshops-on"
    )
    assert text.endswith("\n\non wod.example.org as 1\n\n````python\nprint(1)\n'```'\n````\n")
    assert "OUT" not in text and "RAW" not in text and "This very site" not in text


def test_a_broken_first_page_leaves_the_readme_as_it_was(tmp_path):
    """What cannot be rendered, or is no notebook, is told with file and reason: exit code 8."""
    folder = make(tmp_path)
    (folder / "README.md").write_text("former")
    for content, reason in (("{{ NOBODY }}", "'NOBODY' is not defined"), ("[]", "no notebook")):
        (folder / "0-ReadMeFirst.ipynb").write_text(content)
        done = wodctl("workshop", "readme", str(folder), state=tmp_path / "state")
        assert done.returncode == 8
        assert "WKSHP-Git101/0-ReadMeFirst.ipynb" in done.stderr and reason in done.stderr
    assert (folder / "README.md").read_text() == "former"


def test_rebrand_shows_first_and_changes_only_when_told(tmp_path):
    """Without --apply a diff and no change; with it the change; a second time nothing."""
    script = make(tmp_path) / "visit.sh"
    script.write_text("echo HPE DEV\n")
    script.chmod(0o750)
    shown = wodctl("rebrand", str(tmp_path), state=tmp_path / "state")
    assert "-echo HPE DEV\n+echo {{ BRANDING }}" in shown.stdout and shown.returncode == 0
    assert script.read_text() == "echo HPE DEV\n"
    wodctl("rebrand", str(tmp_path), "--apply", state=tmp_path / "state")
    assert script.read_text() == "echo {{ BRANDING }}\n"
    assert stat.S_IMODE(script.stat().st_mode) == 0o750
    again = wodctl("rebrand", str(tmp_path), "--apply", state=tmp_path / "state")
    assert again.stdout == "" and "Nothing to change" in again.stderr


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "HackShack, Hack Shack, HPE DEV Hack Shack",
            "{{ BRANDINGWOD }}, {{ BRANDINGWOD }}, {{ BRANDINGWOD }}",
        ),
        ("the HPE DEV Community, HPE DEV, HPEDEV", "the {{ BRANDING }}, {{ BRANDING }}, {{ BRANDING }}"),
        ("HPE DEV Workshops-on-Demand", "{{ BRANDINGWOD }}"),
        ("![HPEDEVlogo](Pictures/hpe-dev-logo.png)", "{{ BRANDINGLOGO }}"),
        ("https://hackshack.hpedev.io/workshop/24 now", "{{ BRANDINGURL }} now"),
        ("{{ 'HPE DEV' }} {# HPE DEV #} {% raw %}{{ HPE DEV }}{% endraw %}", None),
        ("HPE DEVICE SHPE DEV", None),
        ("line\r\nHPE DEV\r\n", "line\r\n{{ BRANDING }}\r\n"),
    ],
)
def test_former_wordings_become_variables(tmp_path, before, after):
    """Names, logos and addresses; not within Jinja's signs or raw blocks, nor parts of other words."""
    file = tmp_path / "text.sh"
    file.write_bytes(before.encode())
    wodctl("rebrand", str(tmp_path), "--apply", state=tmp_path / "state")
    assert file.read_bytes().decode() == (before if after is None else after)


def test_what_no_delivery_renders_is_never_rewritten(tmp_path):
    """Binary files, other encodings, links, `.git` and plain texts stay; plain texts are pointed out."""
    kept = {
        "picture.sh": b"\0HPE DEV",
        "latin.sh": b"HPE DEV \xe9",
        ".git/hook.sh": b"HPE DEV",
        "0-checkpoint.ipynb": b"HPE DEV",
        "notes.md": b"HPE DEV",
    }
    for name, content in kept.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    outside = tmp_path.with_name(tmp_path.name + "-outside.sh")
    outside.write_bytes(b"HPE DEV")
    (tmp_path / "link.sh").symlink_to(outside)
    done = wodctl("rebrand", str(tmp_path), "--apply", state=tmp_path / "state")
    assert {name: (tmp_path / name).read_bytes() for name in kept} == kept
    assert outside.read_bytes() == b"HPE DEV" and (tmp_path / "link.sh").is_symlink()
    assert done.stdout == "" and "notes.md is not rendered" in done.stderr


def overlay(tmp_path: Path, rules: str) -> dict[str, str]:
    (tmp_path / "private/ansible").mkdir(parents=True)
    (tmp_path / "private/ansible/rebranding.yml").write_text(rules)
    (tmp_path / "content").mkdir()
    (tmp_path / "content/a.ipynb").write_text('{"a": "Acme, HPE DEV"}')
    return {"WODPRIVDIR": str(tmp_path / "private")}


def test_a_site_has_rules_of_its_own(tmp_path):
    """The private repository's rules are used instead of ours."""
    site = overlay(tmp_path, "- {find: Acme, replace: '{{ BRANDING }}'}")
    done = wodctl("rebrand", str(tmp_path / "content"), "--apply", state=tmp_path / "state", **site)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "content/a.ipynb").read_text() == '{"a": "{{ BRANDING }}, HPE DEV"}'


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ("- {find: Acme, replace: Acme Inc}", "each run would change it"),
        ("- {find: 'Acme', replace: 'a \"name\"'}", "no longer be a notebook"),
        ("- {find: '(', replace: x}", "no regular expression"),
        ("- {seek: x}", "Expected a list of"),
        ("3", "Expected a list of"),
    ],
)
def test_rules_that_would_do_harm_are_refused(tmp_path, rules, reason):
    """Before any file is changed: exit code 8 and the reason."""
    site = overlay(tmp_path, rules)
    done = wodctl("rebrand", str(tmp_path / "content"), "--apply", state=tmp_path / "state", **site)
    assert done.returncode == 8 and reason in done.stderr
    assert (tmp_path / "content/a.ipynb").read_text() == '{"a": "Acme, HPE DEV"}'
