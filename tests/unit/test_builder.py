"""What makes an image a new one, and what the builder tells of a build; no engine is asked."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from wodctl.adapters import builder as module
from wodctl.adapters.builder import Builder
from wodctl.adapters.configuration import load
from wodctl.errors import EngineProblem

ROOT = Path(__file__).resolve().parents[2]
BAKE_FILE = """
group "default" {
  targets = ["base", "hub", "mail"]
}

target "site" {
  secret = ["id=ca,src=x"]
}

target "base" {
  inherits   = ["site"]
  dockerfile = "images/base/Dockerfile"
  contexts   = { rootfs = "docker-image://${ROOTFS}" }
}

target "hub" {
  inherits   = ["site"]
  dockerfile = "images/hub/Dockerfile"
  contexts   = { base = "target:base" }
}

target "mail" {
  dockerfile = "images/mail/Dockerfile"
}
"""
HUB = r"""
# COPY nothing/of/this /
FROM base AS build
RUN --mount=type=cache,target=/root/.cache \
    --mount=type=bind,source=images/hub/requirements.lock,target=/r.lock \
    true
FROM base
COPY --from=build /opt/wod /opt/wod
COPY --chown=1801:1801 \
    # an own line for the templates
    conf/jupyterhub/ \
    wodctl/*.py /etc/wod/
COPY ["images/hub/start", "/usr/local/bin/"]
"""
FILES = {
    ".dockerignore": ".git\n**/__pycache__\ndocs\n",
    "images/docker-bake.hcl": BAKE_FILE,
    "images/base/Dockerfile": "FROM rootfs\nCOPY images/base/dpkg.cfg /etc/\n",
    "images/base/dpkg.cfg": "path-exclude=/usr/share/doc/*\n",
    "images/hub/Dockerfile": HUB,
    "images/hub/requirements.lock": "jupyterhub==1\n",
    "images/hub/start": "#!/bin/sh\n",
    "images/hub/notes.txt": "not copied\n",
    "images/mail/Dockerfile": "FROM scratch\n",
    "conf/jupyterhub/pages/login.html": "<html>\n",
    "conf/jupyterhub/__pycache__/x.pyc": "ignored\n",
    "wodctl/errors.py": "\n",
    "docs/index.md": "\n",
}


@dataclass(frozen=True)
class Checkout:
    """A small checkout of the test's own."""

    root: Path

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def tags(self, base_image: str = "debian:trixie-slim") -> dict[str, str]:
        settings = load(ROOT, self.root / "state", {"WODBASEIMAGE": base_image}, {})[0]
        builder = Builder(self.root, self.root / "state", settings)
        return {name: builder.tag(name) for name in builder.images()}

    def changed_by(self, name: str, text: str) -> set[str]:
        """The images whose tags differ after a file was written."""
        before = self.tags()
        self.write(name, text)
        after = self.tags()
        return {image for image in after if after[image] != before[image]}


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = Checkout(tmp_path)
    for name, text in FILES.items():
        made.write(name, text)
    return made


def test_a_tag_is_a_repository_and_twelve_digits(checkout: Checkout) -> None:
    """An image is called `wod/<name>:<hash>`, and the same files have the same names."""
    assert re.fullmatch(r"wod/hub:[0-9a-f]{12}", checkout.tags()["hub"])
    assert checkout.tags() == checkout.tags()


@pytest.mark.parametrize(
    ("name", "images"),
    [
        ("images/hub/Dockerfile", {"hub"}),
        ("images/hub/requirements.lock", {"hub"}),
        ("images/hub/start", {"hub"}),
        ("conf/jupyterhub/pages/login.html", {"hub"}),
        ("wodctl/errors.py", {"hub"}),
        ("images/base/dpkg.cfg", {"base", "hub"}),
        ("images/base/Dockerfile", {"base", "hub"}),
        ("images/mail/Dockerfile", {"mail"}),
    ],
)
def test_what_an_image_reads_makes_it_a_new_one(checkout: Checkout, name: str, images: set[str]) -> None:
    """A change in a file that an image copies or mounts gives it, and those built on it, a new tag."""
    assert checkout.changed_by(name, FILES[name] + "\n") == images


@pytest.mark.parametrize(
    "name", ["images/hub/notes.txt", "docs/index.md", "conf/jupyterhub/__pycache__/x.pyc"]
)
def test_what_no_image_reads_changes_none(checkout: Checkout, name: str) -> None:
    """Files that are not copied, and those that .dockerignore keeps out, change no tag."""
    assert checkout.changed_by(name, "something else\n") == set()


def test_a_new_file_in_a_copied_folder_counts(checkout: Checkout) -> None:
    """A file that comes, or goes by another name, changes the image that copies its folder."""
    assert checkout.changed_by("conf/jupyterhub/pages/spawn.html", "\n") == {"hub"}
    before = checkout.tags()
    (checkout.root / "conf/jupyterhub/pages/spawn.html").rename(
        checkout.root / "conf/jupyterhub/pages/error.html"
    )
    assert checkout.tags()["hub"] != before["hub"]


def test_the_right_to_execute_counts_and_the_time_does_not(checkout: Checkout) -> None:
    """A file that becomes executable changes its image; one that was only touched does not."""
    before = checkout.tags()
    os.utime(checkout.root / "images/hub/start", (0, 0))
    assert checkout.tags() == before
    (checkout.root / "images/hub/start").chmod(0o755)
    assert checkout.tags()["hub"] != before["hub"]


def test_a_target_of_the_bake_file_concerns_its_image_only(checkout: Checkout) -> None:
    """Words on one target change that image; words that several inherit change all of these."""
    own = BAKE_FILE.replace('"images/mail/Dockerfile"', '"images/mail/Dockerfile" # one file')
    assert checkout.changed_by("images/docker-bake.hcl", own) == {"mail"}
    inherited = own.replace("id=ca,src=x", "id=ca,src=y")
    assert checkout.changed_by("images/docker-bake.hcl", inherited) == {"base", "hub"}


def test_another_base_makes_other_images(checkout: Checkout) -> None:
    """Images made of Debian packages go by other names than those made of a registry's image."""
    first, second = checkout.tags("debian:trixie-slim"), checkout.tags("mirror.example/debian:13")
    assert {name for name in first if first[name] != second[name]} == {"base", "hub"}


def test_a_missing_file_is_named(checkout: Checkout) -> None:
    """A Dockerfile that copies what is not there is reported with both names, before anything is built."""
    (checkout.root / "images/hub/start").unlink()
    with pytest.raises(EngineProblem, match="images/hub/Dockerfile needs images/hub/start"):
        checkout.tags()


def test_an_unknown_image_is_refused(checkout: Checkout) -> None:
    """A name that the bake file does not have is answered with those that it has."""
    settings = load(ROOT, checkout.root / "state", {"WODBASEIMAGE": "x"}, {})[0]
    with pytest.raises(EngineProblem) as problem:
        Builder(checkout.root, checkout.root / "state", settings).tag("spam")
    assert "base, hub, mail" in problem.value.hint


def read_build(output: str) -> tuple[list[str], module._Report]:
    told: list[str] = []
    report = module._Report(told.append)
    for line in output.splitlines():
        report.take(line)
    return told, report


def test_steps_that_do_work_are_told_once() -> None:
    """Cached steps and BuildKit's own are passed over; a step is told when its first output comes."""
    told, _ = read_build(
        """#1 [internal] load local bake definitions
#1 reading images/docker-bake.hcl 3.58kB / 3.58kB done
#5 [base 2/3] RUN apt-get update
#5 CACHED
#6 [hub build 3/5] RUN uv venv /opt/wod
#6 0.412 Creating virtual environment
#6 1.412 Done
#6 DONE 2.0s
#7 [hub] exporting to image
#7 exporting layers 0.4s done
"""
    )
    assert told == ["hub 3/5: RUN uv venv /opt/wod"]


def test_a_failed_step_is_explained() -> None:
    """The image that failed is named, with what its failing step said last."""
    _, report = read_build(
        """#6 [hub build 3/5] RUN uv venv /opt/wod
#7 [mail 2/4] RUN apt-get update
#7 0.100 Hit:1 trixie
#6 0.412 error: write /opt/wod/x: No space left on device
#6 ERROR: process "/bin/sh -c uv venv /opt/wod" did not complete successfully: exit code: 2
#7 CANCELED
ERROR: target hub: failed to solve: process "/bin/sh -c uv venv" did not complete successfully: exit code: 2
"""
    )
    problem = module._build_failed(report, ["hub", "mail"], Path("/state/build.log"))
    assert problem.message.startswith("The image hub could not be built.\nerror: write /opt/wod/x")
    assert "Hit:1" not in problem.message
    assert "disk is full" in problem.hint


def test_every_folder_with_a_dockerfile_is_in_the_bake_file() -> None:
    """Each image has a target that names its Dockerfile, the named contexts that this uses, and no others.

    What appliances share needs no line there.
    """
    text = (ROOT / "images/docker-bake.hcl").read_text()
    builder = Builder(ROOT, ROOT / "nowhere", load(ROOT, ROOT / "nowhere", {"WODBASEIMAGE": "x"}, {})[0])
    for dockerfile in ROOT.glob("images/*/Dockerfile"):
        name = dockerfile.parent.name
        definition = builder._definition(name)
        if name.startswith("appliance-"):
            assert name not in text
            continue
        assert f'"images/{name}/Dockerfile"' in definition
        assert f'variable "TAG_{name.upper().replace("-", "_")}"' in text
        if name != "base":
            parents = set(re.findall(r"^FROM (base|toolchain|lab)\b", dockerfile.read_text(), re.MULTILINE))
            assert set(re.findall(r'"target:([\w-]+)"', definition)) == parents | {"base"}, name


def test_a_mirror_is_written_for_apt_and_kept_to_ourselves(tmp_path: Path) -> None:
    """The mirror of the settings is what builds install from; the file is readable for nobody else."""
    mirrors = "http://me:secret@mirror.example/debian http://mirror.example/debian-security"
    settings = load(ROOT, tmp_path, {"WODDEBIANMIRROR": mirrors}, {})[0]
    path = Builder(ROOT, tmp_path, settings)._rootfs.write_sources()
    assert path is not None
    assert path.stat().st_mode & 0o777 == 0o600
    first, second = path.read_text().strip().split("\n\n")
    assert "URIs: http://me:secret@mirror.example/debian\nSuites: trixie trixie-updates\n" in first
    assert "URIs: http://mirror.example/debian-security\nSuites: trixie-security\n" in second


def test_a_folder_of_an_appliance_is_a_target_that_stands_on_ours_by_name(tmp_path: Path) -> None:
    """Its context is the folder, also that of a private repository; only its own files make it another image."""
    private = tmp_path / "private" / "appliances" / "Lab101"
    files = {"Dockerfile": "FROM appliance-base\nCOPY --from=toolchain /x /x\nCOPY x /x\n", "x": "1", "y": "1",
             "db.Dockerfile": "FROM postgres:17\n", "appliance.yml": ""}  # fmt: skip
    private.mkdir(parents=True)
    for name, text in files.items():
        (private / name).write_text(text)
    settings = load(ROOT, tmp_path, {"WODBASEIMAGE": "x", "WODPRIVDIR": str(tmp_path / "private")}, {})[0]
    builder = Builder(ROOT, tmp_path, settings)
    assert builder.appliance_folders()["Lab101"] == private
    definition = builder._definition("appliance-of-lab101")
    assert f'context    = "{private}"' in definition
    assert '"appliance-base" = "target:appliance-base", "toolchain" = "target:toolchain"' in definition
    images = builder.appliance_images(private)
    assert re.fullmatch(r"wod/appliance/lab101-db:[0-9a-f]{12}", images["db"])
    (private / "y").write_text("2")
    assert builder.appliance_images(private) == images
    (private / "x").write_text("2")
    assert builder.appliance_images(private)["appliance"] != images["appliance"]
    assert builder.appliance_images(private)["db"] == images["db"]
