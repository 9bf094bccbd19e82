"""The site's scripts and the compiler in real containers of a real engine, each document as the gate lets it pass."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, docker
from wodctl.adapters import configuration
from wodctl.adapters.builder import Builder
from wodctl.adapters.containers import Containers
from wodctl.adapters.scripts import Desk, Place, Ran, Scripts
from wodctl.adapters.workshops import Workshops
from wodctl.errors import ActionFailed, ContentProblem
from wodctl.model.scripts import Occasion

sys.path.insert(0, str(ROOT / "images" / "gate"))

from wod_gate import policy as gate

PROJECT = f"scripttest{os.getpid()}"
NAME = f"{PROJECT}-script3"
PASSWORD = "Sesame-open-17"  # noqa: S105 - of a seat that nobody has
OCCASION = Occasion(3, 2003, 2003, "CHLG-X", PASSWORD, "7", "token.of.the.portal")


@cache
def images() -> dict[str, str]:
    """The images of ours that scripts run in, as they are built now."""
    state = Path("/var/lib/wod-tests")
    builder = Builder(ROOT, state, configuration.load(ROOT, state, {}, {})[0])
    names = ["lab", "compiler"]
    if missing := [name for name in names if name in builder.missing()]:
        builder.build(missing)
    return {name: builder.tag(name) for name in names}


class Watched(Containers):
    """The engine's own socket, with the gate's policy before it; keeps what the engine knows of each container."""

    def __init__(self, policy: gate.Policy) -> None:
        super().__init__(Path("/var/run/docker.sock"))
        self._policy = policy
        self.known: list[str] = []

    def start(self, name: str, document: Mapping[str, Any]) -> None:
        target = f"/containers/create?name={name}"
        self._policy.check("worker", "POST", target, (), json.dumps(document).encode())
        super().start(name, document)
        self.known.append(docker("inspect", name))


@dataclass
class Lot:
    """A site with a private repository, whose seat 3 has a home."""

    folder: Path
    containers: Watched = field(init=False)
    seconds: int = 20

    def __post_init__(self) -> None:
        for name in ("data/scripts", "data/students/student3", "data/students/student4", "public", "secrets"):
            (self.folder / name).mkdir(parents=True)
        os.chown(self.folder / "data/students/student3", 2003, 2003)
        write(self.home / ".bashrc", "echo hostile >&2\n")
        write(self.home / ".ssh/config", "Host *\n  ProxyCommand echo hostile >&2\n")
        write(self.folder / "data/students/student4/private", "not for student3\n")
        write(self.folder / "private/notebooks/WKSHP-X/0-ReadMeFirst.ipynb", '{"cells": []}')
        write(self.folder / "private/notebooks/WKSHP-X/wod.yml", "range: [1, 9]\n")
        write(self.folder / "private/ansible/vault_secret", "open-the-vault\n")
        write(self.folder / "private/ansible/production/variables_WKSHP-X.yml", "FLAG: captured\n")
        tags = images()
        environment = {
            "WOD_PROJECT": PROJECT,
            "WOD_STATE": str(self.folder),
            "WOD_LABS": f"lab={tags['lab']}",
            "WOD_COMPILER_IMAGE": tags["compiler"],
            "WOD_EXPORT_IMAGE": "none",
            "WOD_SEAT_SUBNET": "10.213.0.0/20",
        }
        self.settings = replace(
            configuration.load(ROOT, self.folder, {}, {})[0], WODSEATMEMORY="256M", WODSEATPIDS=128
        )
        self.place = replace(
            Place.of(environment),
            layouts=self.folder / "data/scripts",
            public=self.folder / "public",
            secrets=self.folder / "secrets",
            homes=self.folder / "data/students",
        )
        policy = (ROOT / "conf/gate/policy.yml").read_text()
        site = gate.Site.gather(environment, json.loads(self.settings.to_json()))
        self.containers = Watched(gate.Policy(policy, site))

    @property
    def home(self) -> Path:
        return self.folder / "data/students/student3"

    @property
    def scripts(self) -> Scripts:
        settings = replace(self.settings, WODSCRIPTSECONDS=self.seconds)
        workshops = Workshops(settings, self.folder / "none", self.folder / "private")
        return Scripts(settings, workshops, self.containers, self.place)

    @property
    def workshop(self) -> Any:
        return Workshops(self.settings, self.folder / "none", self.folder / "private").workshop("WKSHP-X")

    def run(self, text: str, kind: str = "create", desk: Desk | None = None) -> Ran:
        """What becomes of a private script with that text, at seat 3."""
        write(self.folder / f"private/scripts/{kind}-WKSHP-X.sh", f"#!/bin/bash\n{text}\n", 0o755)
        [script] = self.scripts.named(kind, "WKSHP-X")
        if desk:
            return desk.run(script, self.workshop, self.home)
        with self.scripts.at(OCCASION) as own:
            return own.run(script, self.workshop, self.home)


def write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def exists() -> bool:
    """Whether the engine has a container of seat 3's scripts."""
    return bool(docker("ps", "-aq", "--filter", f"name=^/{NAME}$").strip())


@pytest.fixture
def lot(tmp_path: Path) -> Iterator[Lot]:
    tmp_path.chmod(0o755)
    yield Lot(tmp_path / "state")
    docker("rm", "-f", "-v", NAME, check=False)


def test_a_script_finds_what_it_is_used_to_and_its_secrets_are_files(lot: Lot) -> None:
    """Environment, folders, /etc/wod.sh, a name for ssh; passwords as bash variables, known to no environment."""
    write(lot.folder / "secrets/id_rsa", "the site's key\n", 0o600)
    write(lot.folder / "private/scripts/functions.sh", "wod_answer() { echo 42; }\n")
    ran = lot.run(r"""
        set -e
        . /etc/wod.sh
        . "$WODSCRIPTPRIVDIR/functions.sh"
        echo "$stdid|$stddir|$w|$ws|$wid|$USER|$(id -un)|$PWD|$(wod_answer)"
        [ "$(cat "$WODNOBO/$ws/0-ReadMeFirst.ipynb")" = '{"cells": []}' ]
        [ "$randompw" = Sesame-open-17 ] && [ "$(cat /srv/wod/secrets/randompw)" = "$randompw" ]
        [ "$accessToken" = token.of.the.portal ] && [ "$(cat "$HOME/.ssh/id_rsa")" = "the site's key" ]
        [ "$(cat "$WODANSIBLEPRIVDIR/vault_secret")" = open-the-vault ]
        ! env | grep -E 'Sesame|token.of|open-the|site.s key'
        ! tr '\0' '\n' < /proc/self/environ | grep -E 'Sesame|token.of'
        set -x; : "$randompw" "$accessToken"; set +x; cat "$WODANSIBLEPRIVDIR/vault_secret"
        echo "made here" > "$stddir/made"
    """)
    assert ran.status == 0, ran.output
    line = "3|/student/student3|CHLG-X|WKSHP-X|7|wodadmin|wodadmin|/srv/wod/notebooks|42"
    assert ran.output.splitlines()[0] == line
    assert "(secret)" in ran.output
    made = lot.home / "made"
    assert (made.read_text(), made.stat().st_uid) == ("made here\n", 2003)
    for secret in (PASSWORD, "token.of.the.portal", "open-the-vault", "the site's key"):
        assert secret not in ran.output
        assert secret not in "".join(lot.containers.known)
    assert not exists()
    assert not list(lot.place.layouts.glob("[!.]*"))


def test_values_that_a_script_hands_over_are_the_delivery_s_variables(lot: Lot) -> None:
    """In the file where existing scripts leave them, plain or sealed; also for the scripts that come after."""
    write(
        lot.folder / "private/scripts/post-copy-WKSHP-X.sh.j2",
        "#!/bin/bash\necho {{ FLAG }} for {{ STDID }}\n",
    )
    write(lot.folder / "private/scripts/create-WKSHP-Other.sh.j2", "{{ NOTHERE }}")
    with lot.scripts.at(OCCASION) as desk:
        ran = lot.run(
            "file=$WODANSIBLEPRIVDIR/$WODGROUP/pass/variables_${w}_$stdid.yml\n"
            'echo "HTTPPORT: 14153" >> "$file"\n'
            "ansible-vault encrypt_string --vault-password-file $WODANSIBLEPRIVDIR/vault_secret"
            ' --name PASSSTU "$randompw" >> "$file" 2> /dev/null',
            desk=desk,
        )
        assert ran.status == 0, ran.output
        sources = Workshops(lot.settings, lot.folder / "none", lot.folder / "private").variables()
        found = sources.of("WKSHP-X", "CHLG", 3, desk.made)
        assert (found["HTTPPORT"], found["PASSSTU"], found["FLAG"]) == (14153, PASSWORD, "captured")
        [later] = lot.scripts.named("post-copy", "WKSHP-X")
        assert desk.run(later, lot.workshop, lot.home).output == "captured for 3\n"


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        (
            r"python3 -c $'import os\nwhile os.fork(): pass\nimport time; time.sleep(600)'",
            1,
            "BlockingIOError",
        ),
        ("dd if=/dev/zero of=/tmp/full bs=1M count=999 2>&1", 1, "No space left on device"),
        ("python3 -c 'x = bytearray(1 << 30)'; echo $?", 0, "137"),
        ("echo x > /srv/wod/notebooks/mine", 1, "Read-only file system"),
        ("echo x > /etc/mine", 1, "Read-only file system"),
        ("ls /sys/class/net; echo > /dev/tcp/10.0.0.1/53", 1, "lo\n"),
        ("cat /student/student4/private", 1, "No such file"),
        ("ls /run/postgresql /run/gate /var/run/docker.sock /srv/scripts; echo $?", 0, "No such file"),
        ("grep -h CapEff /proc/self/status; exit 3", 3, "0000000000000000"),
        ("cat /run/wod/*; sudo id", 127, "command not found"),
        ("setsid sleep 600 & exit 0", 0, ""),
        ("ssh -o BatchMode=yes nowhere.invalid; bash -i -c true; echo $?", 0, "Could not resolve"),
    ],
)
def test_a_script_cannot_do_harm(lot: Lot, text: str, status: int, said: str) -> None:
    """It has its seat's home, what is laid out for it and nothing else; what it takes is limited."""
    ran = lot.run(text)
    assert ran.status == status, ran.output[-2000:]
    assert said in ran.output
    assert "hostile" not in ran.output, "the participant's files were read as settings"
    assert len(ran.output) <= 16 * 1024
    assert not exists()
    assert not list(lot.place.layouts.glob("[!.]*"))


def test_a_script_that_hangs_is_stopped_and_named_as_late(lot: Lot) -> None:
    """Also one that ignores to be asked; it stops itself, so that it does where nobody waits any more."""
    lot.seconds = 2
    assert lot.run("echo begun; trap '' TERM; while :; do sleep 1; done") == Ran(None, "begun\n")
    assert lot.run("echo begun; sleep 100") == Ran(None, "begun\n")


def test_a_script_that_writes_without_end_is_stopped_and_its_last_words_are_kept(lot: Lot) -> None:
    """Neither the host's disk nor our memory has to hold what it writes."""
    lot.seconds = 5
    ran = lot.run("yes $(seq 200)")
    assert ran.status is None
    assert len(ran.output) == 16 * 1024
    assert " 100 101 102 " in ran.output


def test_what_a_killed_worker_left_is_gone_before_anything_else(lot: Lot) -> None:
    """Container and folder; and where there is nothing left, the engine is not even asked."""
    write(lot.folder / "private/scripts/create-WKSHP-X.sh", "#!/bin/bash\nsleep 600\n", 0o755)
    [script] = lot.scripts.named("create", "WKSHP-X")

    class Killed(BaseException):
        """As SIGKILL: nothing of ours runs after it."""

    class Dying(Watched):
        def wait(self, name: str, seconds: float) -> int | None:
            raise Killed

    lot.containers.__class__ = Dying
    desk = lot.scripts.at(OCCASION).__enter__()
    with pytest.raises(Killed):
        desk.run(script, lot.workshop, lot.home)
    assert exists()
    assert (lot.place.layouts / "student3/site/secrets/randompw").exists()
    lot.containers.__class__ = Watched
    lot.scripts.ensure_tidy()
    assert not exists()
    assert not list(lot.place.layouts.glob("[!.]*"))
    lot.containers = Watched.__new__(Watched)  # which cannot be asked anything
    lot.scripts.ensure_tidy()


def test_a_compiled_script_runs_in_the_seat_and_leaves_no_text_behind(lot: Lot) -> None:
    """Rendered, built outside the home, the participant's, without the words that it was made of."""
    write(
        lot.folder / "private/scripts/get-flag.shc",
        '#!/bin/bash\necho "{{ FLAG }} by seat {{ STDID }} for $1"\n',
    )
    with lot.scripts.at(OCCASION) as desk:
        desk.compile(("get-flag.shc",), lot.workshop, lot.home)
    program = lot.home / "get-flag.shc.x"
    assert (program.stat().st_mode & 0o7777, program.stat().st_uid) == (0o755, 2003)
    said = docker(
        *("run", "--rm", "--network=none", "--user=2003:2003", "--cap-drop=ALL", "--read-only"),
        *("--security-opt=no-new-privileges", f"--volume={lot.home}:/student/student3"),
        *("--entrypoint=/student/student3/get-flag.shc.x", images()["lab"], "you"),
    )
    assert said == "captured by seat 3 for you\n"
    assert sorted(path.name for path in lot.home.iterdir()) == [".bashrc", ".ssh", "get-flag.shc.x"]
    assert b"captured" not in program.read_bytes()
    assert not list(lot.place.layouts.glob("[!.]*"))
    assert json.loads(lot.containers.known[-1])[0]["HostConfig"]["NetworkMode"] == "none"


def test_what_cannot_be_compiled_is_named(lot: Lot) -> None:
    """A script that is nowhere, one with a variable that nobody has, one that is no script."""
    write(lot.folder / "public/unknown.shc", "#!/bin/bash\necho {{ NOTHERE }}\n")
    write(lot.folder / "public/odd.shc", "echo without a first line\n")
    for name, problem, words in (
        ("get-none.shc", ContentProblem, "get-none.shc, which is in no folder of scripts"),
        ("../wod.sh", ContentProblem, "expected the name of a file"),
        ("unknown.shc", ContentProblem, "NOTHERE"),
        ("odd.shc", ActionFailed, "odd.shc could not be compiled: .*invalid first line"),
    ):
        with pytest.raises(problem, match=words), lot.scripts.at(OCCASION) as desk:
            desk.compile((name,), lot.workshop, lot.home)
    assert sorted(path.name for path in lot.home.iterdir()) == [".bashrc", ".ssh"]
