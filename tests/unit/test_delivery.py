"""A workshop in a participant's home: the whole tree, byte for byte, with modes and owners."""

import json
import os
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from notebooks_loader import delivery, skeleton, tree
from notebooks_loader.catalogue import Catalogue
from notebooks_loader.delivery import deliver
from notebooks_loader.validation import examine
from wodctl.errors import ContentProblem
from wodctl.model.manifest import read_manifest

LOADER = Path(__file__).resolve().parents[2] / "notebooks-loader"
UID, GID = (2003, 2003) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
SITE: dict[str, Any] = {
    "BRANDING": 'The "Workshops"',
    "BRANDINGWOD": "WoD",
    "BRANDINGLOGO": "![logo](Pictures/logo.png)",
    "BRANDINGURL": "https://wod.example.org",
    "SURVEYURL": "https://survey.example.org",
    "SURVEYCHALURL": "https://quiz.example.org",
    "WODBEEXTFQDN": "hub.example.org",
}
FIRST = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A catalogue with the workshop WKSHP-X, which has nothing but its first page."""
    add(tmp_path / "workshops", "0-ReadMeFirst.ipynb", FIRST)
    return tmp_path / "workshops"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


def add(root: Path, name: str, content: str | bytes, mode: int = 0o644) -> Path:
    path = root / "WKSHP-X" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def give(root: Path, home: Path, mode: str = "WKSHP", seat: int = 3, **variables: Any) -> Path:
    """Deliver the workshop; the folder that the participant gets."""
    deliver(Catalogue(root).workshop("WKSHP-X"), mode, seat, SITE | variables, home, UID, GID)
    return home / "WKSHP-X"


def seen(path: Path) -> Iterator[tuple[str, Any]]:
    """Everything below a folder: files with mode and content, links with target, folders with mode."""
    for one in sorted(path.rglob("*")):
        status = one.lstat()
        assert (status.st_uid, status.st_gid) == (UID, GID), one
        name = str(one.relative_to(path))
        if one.is_symlink():
            yield name, ("link", os.readlink(one))
        elif one.is_dir():
            yield name + "/", oct(stat.S_IMODE(status.st_mode))
        else:
            yield name, (oct(stat.S_IMODE(status.st_mode)), one.read_bytes())


def test_the_installed_tree_is_exactly_the_expected_one(root: Path, home: Path):
    """Templates are rendered, everything else is copied, and what comes with each workshop is added."""
    add(root, "1-WKSHP-Ünï cödé.ipynb", '{"a": "{{ BRANDING }}"}')
    add(root, "env.sh", "export NAME=student{{ STDID }}\n", 0o755)
    add(root, "main.tf", "{{ MODEWS }}")
    add(root, "Variables.ps1", "{{ WORKSHOP }} {{ CHALLENGE }}[{{ DIR }}]")
    add(root, "tool.sh", b"\x7fELF\xff{{ STDID }}", 0o555)
    add(root, "README.md", "{{ BRANDINGWOD }}")
    add(root, "playbook.yml", "{{ untouched }}")
    add(root, "templates/lab.txt.j2", "{{ untouched }}", 0o600)
    add(root, ".hidden.yaml", "{{ untouched }}")
    add(root, ".config/inner.yaml", "{{ STDID }}")
    add(root, ".ipynb_checkpoints/1-checkpoint.ipynb", "{{ untouched }}")
    add(root, "Data/with blanks.env", "{{ STDID }}\n\n")
    add(root, "Data/set-id", "x", 0o4755)
    (root / "WKSHP-X" / "Data").chmod(0o750)
    (root / "WKSHP-X" / "empty").mkdir(mode=0o755)
    (root / "WKSHP-X" / "link.ipynb").symlink_to("0-ReadMeFirst.ipynb")
    (root / "WKSHP-X" / "Data" / "up").symlink_to("../env.sh")
    (root / "WKSHP-X" / "dangling").symlink_to("nowhere")

    target = give(root, home)

    script = (target / "wod-generate-pdf.sh").read_bytes()
    assert script.startswith(b"#!/bin/bash\n")
    assert dict(seen(target)) == {
        "0-ReadMeFirst.ipynb": ("0o744", FIRST.encode()),
        "1-WKSHP-Ünï cödé.ipynb": ("0o744", b'{"a": "The \\"Workshops\\""}'),
        "env.sh": ("0o744", b"export NAME=student3\n"),
        "main.tf": ("0o744", b"WKSHP"),
        "Variables.ps1": ("0o744", b"WKSHP-X WKSHP-X[]"),
        "tool.sh": ("0o744", b"\x7fELF\xff{{ STDID }}"),
        "README.md": ("0o744", b"{{ BRANDINGWOD }}"),
        "playbook.yml": ("0o744", b"{{ untouched }}"),
        "templates/": "0o755",
        "templates/lab.txt.j2": ("0o700", b"{{ untouched }}"),
        ".hidden.yaml": ("0o744", b"{{ untouched }}"),
        ".config/": "0o755",
        ".config/inner.yaml": ("0o744", b"3"),
        ".ipynb_checkpoints/": "0o751",
        ".ipynb_checkpoints/0-ReadMeFirst-checkpoint.ipynb": ("0o744", FIRST.encode()),
        ".ipynb_checkpoints/1-checkpoint.ipynb": ("0o744", b"{{ untouched }}"),
        "Data/": "0o750",
        "Data/with blanks.env": ("0o744", b"3\n\n"),
        "Data/set-id": ("0o755", b"x"),
        "Data/up": ("link", "../env.sh"),
        "empty/": "0o755",
        "link.ipynb": ("link", "0-ReadMeFirst.ipynb"),
        "dangling": ("link", "nowhere"),
        "wod-generate-pdf.sh": ("0o755", script),
    }


def test_a_private_workshop_has_the_same_list_of_templates(tmp_path: Path, home: Path):
    """Terraform and environment files included, byte for byte as a public one."""
    names = [
        "a.ipynb",
        "a.yaml",
        "a.py",
        "a.sh",
        "a.src",
        "a.tf",
        "a.env",
        "Variables.ps1",
        "Sub/b.tf",
        "a.yml",
        "a.j2",
    ]
    trees = []
    for kind in ("public", "private"):
        root = tmp_path / kind
        add(root, "0-ReadMeFirst.ipynb", FIRST)
        for name in names:
            add(root, name, "{{ STDID }}{% raw %}{{ x }}{% endraw %}")
        (tmp_path / "none").mkdir(exist_ok=True)
        catalogue = Catalogue(root) if kind == "public" else Catalogue(tmp_path / "none", root)
        deliver(catalogue.workshop("WKSHP-X"), "WKSHP", 3, SITE, home, UID, GID)
        trees.append(dict(seen(home / "WKSHP-X")))
    assert trees[0] == trees[1]
    rendered = {name for name in names if trees[0][name][1] == b"3{{ x }}"}
    assert set(names) - rendered == {"a.yml", "a.j2"}


def test_notebooks_that_are_no_json_before_or_after_are_delivered_byte_for_byte(root: Path, home: Path):
    """One is valid once rendered, and nothing is said of it; the other never, and that is said."""
    add(
        root,
        "1.ipynb",
        '{"cells": [],\n{% raw %}\n"a": "{{closure}}",\n{% endraw %}\n"nbformat": 4}\n\n',
        0o600,
    )
    add(root, "2.ipynb", '{"cells": ["an "unescaped" quote of {{ BRANDING }}"], "nbformat": 4}')
    workshop = Catalogue(root).workshop("WKSHP-X")
    said = deliver(workshop, "WKSHP", 3, SITE, home, UID, GID)
    assert [text.partition(",")[0] for text in said] == ["WKSHP-X/2.ipynb"]
    tree_ = dict(seen(home / "WKSHP-X"))
    assert tree_["1.ipynb"] == ("0o744", b'{"cells": [],\n\n"a": "{{closure}}",\n"nbformat": 4}\n\n')
    quoted = b'{"cells": ["an "unescaped" quote of The \\"Workshops\\""], "nbformat": 4}'
    assert tree_["2.ipynb"] == ("0o744", quoted)


def test_a_copied_file_keeps_its_time(root: Path, home: Path):
    """What was not rendered is as old as in the source."""
    os.utime(add(root, "data.csv", "1,2"), ns=(10**18, 10**18))
    assert (give(root, home) / "data.csv").stat().st_mtime_ns == 10**18


def test_a_challenge_is_delivered_into_the_same_folder(root: Path, home: Path):
    """Only the words differ."""
    add(root, "a.sh", "{{ MODEWS }} {{ CHALLENGE }} {{ WORKSHOP }} {{ STDID }}")
    assert (give(root, home, "CHLG", 17) / "a.sh").read_text() == "CHLG CHLG-X WKSHP-X 17"


def test_the_delivery_s_own_variables_cannot_be_overridden(root: Path, home: Path):
    """A site's setting cannot make a participant somebody else."""
    add(root, "a.sh", "{{ STDID }} {{ MODEWS }}")
    assert (give(root, home, STDID="9", MODEWS="x") / "a.sh").read_text() == "3 WKSHP"


def test_jupyterlab_opens_at_the_first_page(root: Path, home: Path):
    """The default workspace names the page in the places that JupyterLab reads, and the folder to show."""
    give(root, home)
    names = [name for name, _ in seen(home / ".jupyter")]
    assert names == ["lab/", "lab/workspaces/", "lab/workspaces/default-37a8.jupyterlab-workspace"]
    file = home / ".jupyter" / names[-1]
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o751
    workspace = json.loads(file.read_text())
    page = "notebook:WKSHP-X/0-ReadMeFirst.ipynb"
    data = workspace["data"]
    assert workspace["metadata"]["id"] == "default"
    assert data["layout-restorer:data"]["main"]["current"] == page
    assert data["layout-restorer:data"]["main"]["dock"]["widgets"] == [page]
    assert data[page]["data"] == {"path": "WKSHP-X/0-ReadMeFirst.ipynb", "factory": "Notebook"}
    assert data["file-browser-filebrowser:cwd"] == {"path": "WKSHP-X"}


def test_a_second_delivery_replaces_the_first(root: Path, home: Path):
    """Nothing of the former one is left, and the result is the same."""
    add(root, "a.sh", "{{ STDID }}")
    target = give(root, home)
    before = dict(seen(home))
    (target / "left-over").mkdir()
    (target / "left-over" / "file").touch()
    give(root, home)
    assert dict(seen(home)) == before


def test_a_former_delivery_that_is_a_link_is_not_followed(root: Path, home: Path, tmp_path: Path):
    """What a link in the folder's place points to stays as it is."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").touch()
    (home / "WKSHP-X").symlink_to(tmp_path / "elsewhere")
    give(root, home)
    assert os.listdir(tmp_path / "elsewhere") == ["kept"]
    assert not (home / "WKSHP-X").is_symlink()


@pytest.mark.parametrize(
    "content", ["{{ PASSSTU }}", "{% if %}", "{{ ''.__class__ }}", "{{ 'a' * 10 ** 11 }}"]
)
def test_nothing_is_written_when_a_file_cannot_be_rendered(root: Path, home: Path, content: str):
    """The last file is as good a reason as the first one."""
    add(root, "z/last.sh", content)
    with pytest.raises(ContentProblem, match=r"^WKSHP-X/z/last\.sh, line 1: "):
        give(root, home)
    assert os.listdir(home) == []


@pytest.mark.parametrize("target", ["/etc/shadow", "../../secret", "Data/../../x", "Data/back/../../x", "/"])
def test_a_link_that_leaves_the_workshop_is_refused(root: Path, home: Path, target: str):
    """Neither absolute links nor those that climb out, also not by way of another link."""
    add(root, "Data/x", "")
    (root / "WKSHP-X" / "Data" / "back").symlink_to(".")
    (root / "WKSHP-X" / "evil.sh").symlink_to(target)
    with pytest.raises(
        ContentProblem, match=r"WKSHP-X/evil\.sh is a link to .* which leads out of the workshop"
    ):
        give(root, home)
    assert os.listdir(home) == []


def test_what_is_no_file_is_refused(root: Path, home: Path):
    """Pipes and sockets, from which reading may never end."""
    os.mkfifo(root / "WKSHP-X" / "pipe.sh")
    with pytest.raises(ContentProblem, match=r"WKSHP-X/pipe\.sh is a device, socket or pipe"):
        give(root, home)
    (root / "WKSHP-X" / "pipe.sh").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "WKSHP-X" / "s"))
        with pytest.raises(ContentProblem, match="WKSHP-X/s is a device, socket or pipe"):
            give(root, home)


def test_a_tree_that_is_too_large_is_refused(root: Path, home: Path, monkeypatch: pytest.MonkeyPatch):
    """A whole repository by mistake, or a disk image."""
    for number in range(20):
        add(root, f"{number}.txt", "x" * 100)
    monkeypatch.setattr(tree, "MOST_ENTRIES", 20)
    with pytest.raises(ContentProblem, match="WKSHP-X has more than 20 files"):
        give(root, home)
    monkeypatch.setattr(tree, "MOST_ENTRIES", 1000)
    monkeypatch.setattr(tree, "MOST_BYTES", 1000)
    with pytest.raises(ContentProblem, match="WKSHP-X has more than"):
        give(root, home)


def test_what_is_too_much_to_be_rendered_is_not_even_read(
    root: Path, home: Path, monkeypatch: pytest.MonkeyPatch
):
    """All templates together have a limit."""
    monkeypatch.setattr(delivery, "LARGEST_TEMPLATES", 100_000)
    for number in range(3):
        add(root, f"{number}.sh", "x" * 40_000)
    with pytest.raises(ContentProblem, match="WKSHP-X has more than 0 MiB in files that are rendered"):
        give(root, home)
    assert os.listdir(home) == []


def test_a_hundred_thousand_files_or_endless_folders_are_refused_at_once(root: Path, home: Path):
    """By name, before anything is written; hidden folders count as well."""
    for folder in range(51):
        for number in range(400):
            (root / "WKSHP-X" / f".{folder}" / str(number)).mkdir(parents=True)
    start = time.monotonic()
    with pytest.raises(ContentProblem, match="WKSHP-X has more than 20000 files"):
        give(root, home)
    assert time.monotonic() - start < 60
    assert os.listdir(home) == []
    subprocess.run(["rm", "-rf", root], check=True)


def test_folders_without_an_end_are_refused(root: Path, home: Path):
    """As deep as a path can be."""
    deep = root / "WKSHP-X" / "/".join(["d"] * 1500)
    subprocess.run(["mkdir", "-p", deep], check=True)
    with pytest.raises(ContentProblem, match="more than 64 folders deep"):
        give(root, home)
    assert os.listdir(home) == []
    subprocess.run(["rm", "-rf", root], check=True)


def test_strange_names_are_delivered_as_they_are(root: Path, home: Path):
    """Line ends, quotes, dashes, no UTF-8: names are never words of a command; hard links become files."""
    names = [b"a\nb.sh", b"-rf", b"$(touch x)", b"'\"`;", b"\xff\xfe.py", b"...", b"~", b" "]
    for name in names:
        with open(os.path.join(os.fsencode(root / "WKSHP-X"), name), "wb") as file:
            file.write(b"{{ STDID }}")
    os.link(root / "WKSHP-X" / "~", root / "WKSHP-X" / "hard")
    target = give(root, home)
    found = set(os.listdir(os.fsencode(target)))
    assert {*names, b"hard"} <= found
    assert (target / "a\nb.sh").read_text() == "3"
    assert (target / "hard").stat().st_nlink == 1


def test_a_workshop_without_its_first_page_is_refused(root: Path, home: Path):
    """Participants would land nowhere."""
    (root / "WKSHP-X" / "0-ReadMeFirst.ipynb").unlink()
    with pytest.raises(ContentProblem, match=r"WKSHP-X has no 0-ReadMeFirst\.ipynb"):
        give(root, home)


# --- Skeletons ----


def test_skeletons_are_copied_faithfully_and_the_later_one_wins(tmp_path: Path, home: Path):
    """Hidden files, links and modes; a private file replaces the public one of its name."""
    for name, content in {
        "a/.bashrc": "one",
        "a/.profile": "one",
        "b/.profile": "two",
        "b/bin/tool": "x",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o644)
    (tmp_path / "b/bin/tool").chmod(0o755)
    (tmp_path / "b/.bash_aliases").symlink_to(".profile")
    skeleton.install(home, UID, GID, [tmp_path / "a", tmp_path / "b"])
    assert dict(seen(home)) == {
        ".bash_aliases": ("link", ".profile"),
        ".bashrc": ("0o644", b"one"),
        ".profile": ("0o644", b"two"),
        "bin/": "0o755",
        "bin/tool": ("0o755", b"x"),
    }


def test_our_skeleton_brings_an_editor_and_a_private_ssh_folder(home: Path):
    """ssh refuses a configuration that others could read or write, whatever the checkout's modes are."""
    skeleton.install(home, UID, GID, [LOADER / "skel"])
    files = dict(seen(home))
    assert set(files) == {".bash_aliases", ".bash_logout", ".bashrc", ".profile", ".ssh/", ".ssh/config"}
    assert files[".ssh/"] == "0o700"
    assert files[".ssh/config"][0] == "0o600"
    assert b"LogLevel QUIET" in files[".ssh/config"][1]
    assert b"EDITOR=vim" in files[".bashrc"][1]


def test_a_skeleton_cannot_lead_out_of_the_home(tmp_path: Path, home: Path):
    """As in a workshop."""
    (tmp_path / "skel").mkdir()
    (tmp_path / "skel" / ".ssh").symlink_to("/root/.ssh")
    with pytest.raises(ContentProblem, match="leads out"):
        skeleton.install(home, UID, GID, [tmp_path / "skel"])
    assert os.listdir(home) == []


# --- The samples, and what authors are told ----


def samples() -> list[str]:
    return Catalogue(LOADER / "workshops").names()


@pytest.mark.parametrize("name", samples())
def test_a_sample_has_no_problems(name: str):
    """What comes with the software can be delivered, in both modes, with values that need escaping."""
    manifest = LOADER.parent / "images" / "appliances" / name.removeprefix("WKSHP-") / "appliance.yml"
    values = read_manifest(manifest.read_text(), name).sample_values if manifest.is_file() else {}
    assert (
        examine(Catalogue(LOADER / "workshops").workshop(name), lambda mode, seat: SITE | values, [1, 100])
        == []
    )


@pytest.mark.parametrize("name", samples())
def test_a_sample_comes_clean(name: str):
    """Its notebooks have no outputs and no counts, and every picture that they show is there."""
    workshop = Catalogue(LOADER / "workshops").workshop(name)
    for path in workshop.path.glob("*.ipynb"):
        for cell in json.loads(path.read_text())["cells"]:
            assert not cell.get("outputs") and not cell.get("execution_count"), path
            for part in "".join(cell["source"]).split("](")[1:]:
                link = part.partition(")")[0]
                assert "{{" in link or "://" in link or (workshop.path / link).is_file(), (path, link)


def test_the_welcome_tells_participants_who_they_are(home: Path):
    """The sample uses what a site sets, and speaks of a workshop or of a challenge."""
    workshop = Catalogue(LOADER / "workshops").workshop("WKSHP-Welcome101")
    texts = {}
    for mode in ("WKSHP", "CHLG"):
        deliver(workshop, mode, 3, SITE, home, UID, GID)
        notebooks = sorted((home / workshop.name).glob("*.ipynb"))
        texts[mode] = "\n".join(
            "".join(c["source"]) for n in notebooks for c in json.loads(n.read_text())["cells"]
        )
        for value in ("student3", *SITE.values()):
            assert value in texts[mode] or (mode == "WKSHP" and value == SITE["SURVEYCHALURL"]), value
        assert "{{ name }}" in texts[mode]
        assert "{{ guest }}" in (home / workshop.name / "Data" / "playbook.yml").read_text()
    assert "# Workshop: Welcome 101" in texts["WKSHP"] and "quiz" not in texts["WKSHP"]
    assert "# Challenge: Welcome 101" in texts["CHLG"] and "[quiz](https://quiz.example.org)" in texts["CHLG"]


def test_an_author_is_told_every_problem_at_once(root: Path):
    """All files are looked at, and a notebook that JupyterLab could not open is one of the problems."""
    add(root, "1-a.ipynb", '{"cells": [],\n "metadata": {{ MISSING }}}')
    add(root, "2-b.ipynb", '{"cells": "unescaped "quotes""}')
    add(root, "3-c.ipynb", '["no notebook"]')
    add(root, "4-d.ipynb", b'{"cells": "\xff"}')
    add(root, "5-e.sh", "{% nonsense %}")
    found = [
        one.text for one in examine(Catalogue(root).workshop("WKSHP-X"), lambda mode, seat: SITE, [1, 2])
    ]
    assert [problem.partition(":")[0] for problem in found] == [
        "WKSHP-X/1-a.ipynb, line 2",
        "WKSHP-X/2-b.ipynb, line 1 of what it is rendered to",
        "WKSHP-X/3-c.ipynb is not a notebook of format 4.",
        "WKSHP-X/4-d.ipynb is not UTF-8, or nested too deeply.",
        "WKSHP-X/5-e.sh, line 1",
    ]
