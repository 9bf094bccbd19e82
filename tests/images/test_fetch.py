"""The fetcher in its container: what a repository has arrives by itself, and nothing else happens."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT, docker
from tests.images.test_database import wait_for
from tests.unit.test_repositories import TOKEN, Forge, Origin, serving
from wodctl.adapters.builder import Builder
from wodctl.adapters.configuration import load
from wodctl.adapters.repositories import OWNER, Repositories, current
from wodctl.adapters.state import StateDirectory

NAME = "wodtestfetch"
STATE = Path("/var/lib/wod-test-fetch")


@pytest.fixture(scope="module")
def image() -> str:
    builder = Builder(ROOT, STATE, load(ROOT, STATE, {}, {})[0])
    builder.build(["base", "fetch"])
    return builder.tag("fetch")


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "origin")


@pytest.fixture
def forge(origin: Origin, tmp_path: Path) -> Iterator[tuple[type[Forge], str, Path]]:
    """A hosting of the test's own, on the address of this host that containers reach."""
    gateway = json.loads(docker("network", "inspect", "bridge"))[0]["IPAM"]["Config"][0]["Gateway"]
    with serving(origin, tmp_path, gateway) as found:
        yield found


@contextmanager
def fetching(image: str, url: str, authority: Path, minutes: float = 0.02) -> Iterator[Repositories]:
    """The service as compose/stack.yml runs it, but every second; what it knows of the repository."""
    subprocess.run(["rm", "-rf", STATE], check=True)
    docker("rm", "--force", NAME, check=False)
    settings = load(ROOT, STATE, {}, {"WODPRIVREPO": url, "WODCABUNDLE": str(authority)})[0]
    state = StateDirectory(STATE, ROOT)
    (STATE / "secrets/repositories").mkdir(parents=True)
    (STATE / "secrets/repositories/private-token").write_text(TOKEN)
    state.ensure_folders("")
    state.render(settings)
    rendered = STATE / "rendered/fetch.json"
    rendered.write_text(json.dumps(json.loads(rendered.read_text()) | {"minutes": minutes}))
    docker(
        *("run", "--detach", f"--name={NAME}", f"--user={OWNER}:{OWNER}", "--read-only", "--cap-drop=ALL"),
        *("--security-opt=no-new-privileges", "--pids-limit=64", "--memory=768m", "--cpus=1"),
        *("--tmpfs=/tmp:mode=1777,size=16m", "--tmpfs=/run/wod:mode=1777,size=64k"),
        f"--volume={STATE}/data/repositories:/srv/wod/data/repositories",
        f"--volume={STATE}/secrets/repositories:/srv/wod/secrets/repositories:ro",
        f"--volume={rendered}:/etc/wod/settings.json:ro",
        *(f"--volume={authority}:/etc/wod/ca.crt:ro", image),
    )
    try:
        yield Repositories.of(ROOT, STATE, settings)
    finally:
        docker("rm", "--force", NAME)
        subprocess.run(["rm", "-rf", STATE], check=True)


def in_use(text: str) -> Callable[[], bool]:
    """Whether the commit in use is the one of that version."""
    path = current(STATE, "private") / "WKSHP-X/version.txt"
    return lambda: path.exists() and path.read_text() == text


def test_a_new_commit_arrives_by_itself_and_an_outage_leaves_the_last_one(image, origin, forge):
    """Nobody gives a command. While the server is away that is said, and no file is touched; then it goes on."""
    handler, url, authority = forge
    with fetching(image, url, authority) as known:
        wait_for(in_use("one"))
        wait_for(lambda: docker("inspect", "-f", "{{.State.Health.Status}}", NAME).strip() == "healthy")
        origin.commit("two")
        wait_for(in_use("two"))
        handler.elsewhere = "https://localhost:1"  # as good as away
        wait_for(lambda: known.status("private").problem is not None)
        assert in_use("two")()
        handler.elsewhere = ""
        origin.commit("three")
        wait_for(in_use("three"))
        wait_for(lambda: known.status("private").problem is None)
        # The operator's own command finds it done, or does it where the service has not; it spoils nothing for it.
        known.sync("private")
        origin.commit("four")
        known.sync("private")
        assert in_use("four")()
        origin.commit("five")
        wait_for(in_use("five"))


def test_the_token_is_in_no_log_no_argument_and_no_environment(image, origin, forge, tmp_path: Path):
    """Arguments and environments of all its processes are watched while it fetches."""
    _, url, authority = forge
    watch = (
        "import glob, time\nend = time.time() + 12\nseen = set()\nwhile time.time() < end:\n"
        "  for path in glob.glob('/proc/[0-9]*/cmdline') + glob.glob('/proc/[0-9]*/environ'):\n"
        "    try: seen.add(open(path, 'rb').read())\n    except OSError: pass\n"
        "print(b'\\n'.join(seen).decode())"
    )
    with fetching(image, url, authority):
        wait_for(in_use("one"))
        watcher = subprocess.Popen(
            ["docker", "exec", NAME, "python3", "-c", watch], stdout=subprocess.PIPE, text=True
        )
        for number in range(10):
            origin.commit(f"commit {number}")
        wait_for(in_use("commit 9"))
        seen = watcher.communicate(timeout=60)[0]
        assert "git-remote-https" in seen or "remote-https" in seen
        inspected = docker("inspect", NAME)
        logs = subprocess.run(["docker", "logs", NAME], capture_output=True, text=True, check=True)
        for text in (seen, inspected, logs.stdout, logs.stderr):
            assert TOKEN not in text
        assert "now in use" in logs.stdout


def test_it_can_write_nothing_but_repositories_and_has_no_right(image, origin, forge):
    """No capability, no other folder, no token that it could change."""
    _, url, authority = forge
    with fetching(image, url, authority):
        wait_for(in_use("one"))
        status = docker("exec", NAME, "cat", "/proc/1/status")
        assert {line.split()[1] for line in status.splitlines() if line.startswith("Cap")} == {"0" * 16}
        words = ("find", "/", "-xdev", "-writable", "!", "-type", "l")
        writable = docker("exec", NAME, *words, check=False).split()  # some folders it may not even enter
        # Two file systems in memory; the repositories' folder is a third, which `find` names only if it may enter.
        assert set(writable) <= {"/tmp", "/run/wod", "/srv/wod/data/repositories"}
        for path in ("/srv/wod/data/repositories/x", "/srv/wod/secrets/repositories/private-token", "/etc/x"):
            done = subprocess.run(
                ["docker", "exec", NAME, "sh", "-c", 'echo x >> "$0"', path], capture_output=True, check=False
            )
            assert done.returncode != 0, path
