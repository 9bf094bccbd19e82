"""`./wod` on hosts of every kind, played by programs on a PATH of the test's own."""

import os
import pty
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REAL_PROGRAMS = (
    *("awk", "cat", "cksum", "cp", "dirname", "env", "head", "mkdir", "readlink", "sed", "setsid", "sh"),
    *("mktemp", "rm", "tail", "tee", "touch"),
)

DEBIAN_12 = (
    'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'
)
DEBIAN_13 = (
    'ID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n'
)
UBUNTU = 'ID=ubuntu\nVERSION_ID="22.04"\nVERSION_CODENAME=jammy\nPRETTY_NAME="Ubuntu 22.04"\n'
FEDORA = 'ID=fedora\nVERSION_ID="43"\nPRETTY_NAME="Fedora Linux 43"\n'

# The client of an engine that answers once the file `engine` is there.
DOCKER = """
case $1 in
    version) [ -e "$HOST/engine" ] || { echo "Cannot connect to the Docker daemon." >&2; exit 1; } ;;
    compose | buildx) [ -e "$HOST/plugins" ] ;;
esac
"""
# Knows one mirror, remembers what it was asked to do, and installs an engine.
APT_GET = """
case "$*" in
    indextargets*) cat "$HOST/targets" ;;
    *update*) echo update >> "$HOST/done" ;;
    *install*)
        echo "$*" >> "$HOST/done"
        touch "$HOST/plugins" "$HOST/engine"
        cp "$HOST/docker" "$HOST/bin/docker"
        ;;
esac
"""


@dataclass(frozen=True)
class Host:
    """A host with a checkout whose Python environment is ready, and the programs that a test gives it."""

    folder: Path

    @property
    def checkout(self) -> Path:
        return self.folder / "checkout"

    def has(self, name: str, script: str = "") -> None:
        """Put a program on the PATH."""
        program = self.folder / "bin" / name
        program.unlink(missing_ok=True)
        program.write_text(f"#!/bin/sh\n{script}")
        program.chmod(0o755)

    def is_a(self, release: str) -> None:
        (self.folder / "etc/os-release").write_text(release)

    def run(
        self, *words: str, standard_input: int = subprocess.DEVNULL, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ./wod under dash, without a terminal unless one is given."""
        return subprocess.run(
            [shutil.which("dash") or "/bin/sh", str(self.checkout / "wod"), *words],
            env={"PATH": str(self.folder / "bin"), "HOST": str(self.folder)} | environment,
            stdin=standard_input,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def changes(self) -> str:
        """What was done to the host by its package manager."""
        done = self.folder / "done"
        return done.read_text() if done.exists() else ""


@pytest.fixture
def host(tmp_path: Path) -> Host:
    made = Host(tmp_path)
    for folder in ("bin", "etc/apt/sources.list.d", "etc/apt/preferences.d", "log", "checkout/.venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    for program in REAL_PROGRAMS:
        found = shutil.which(program, path="/usr/bin:/bin")
        assert found, f"{program} is a part of every Linux"
        (tmp_path / "bin" / program).symlink_to(found)
    # The script works on the host's files below /etc and /run: here, on those of the test.
    script = (ROOT / "wod").read_text()
    script = script.replace("/etc/", f"{tmp_path}/etc/").replace("/run/systemd", f"{tmp_path}/systemd")
    (made.checkout / "wod").write_text(script.replace("/var/log/", f"{tmp_path}/log/"))
    locks = ("requirements.lock", "requirements-check.lock", "requirements-test.lock")
    for name in ("pyproject.toml", *locks):
        shutil.copy(ROOT / name, made.checkout / name)
    environment = made.checkout / ".venv"
    (environment / "bin/python3").symlink_to(sys.executable)
    for name, script in (("wodctl", 'printf "<%s>" "$@"'), ("pip", 'echo "pip $*" >> "$HOST/done"')):
        (environment / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (environment / "bin" / name).chmod(0o755)
    (environment / "place.stamp").write_text(f"{made.checkout.resolve()} {Path(sys.executable).resolve()}\n")
    for lock in locks:
        content = (made.checkout / "pyproject.toml").read_bytes() + (made.checkout / lock).read_bytes()
        stamp = subprocess.run(["cksum"], input=content, capture_output=True, check=True).stdout
        (environment / f"{lock}.stamp").write_bytes(stamp)
    made.has("id", "case $1 in -u) echo 0 ;; *) echo root ;; esac")
    made.has("docker", DOCKER)
    (tmp_path / "bin/docker").rename(tmp_path / "docker")
    made.has("apt-get", APT_GET)
    made.has("sleep")
    made.is_a(DEBIAN_12)
    sources = tmp_path / "etc/apt/sources.list.d/debian.sources"
    sources.write_text("Types: deb\nURIs: mirror\nSigned-By: /keys/site.gpg\n")
    (tmp_path / "targets").write_text(
        f"Other http://other.example/debian/ {sources}:1\n"
        f"Debian http://me:secret@mirror.example/debian/ {sources}:1\n"
    )
    return made


@pytest.fixture
def host_with_engine(host: Host) -> Host:
    host.has("docker", DOCKER)
    (host.folder / "engine").touch()
    (host.folder / "plugins").touch()
    return host


def test_words_reach_wodctl_as_they_are(host_with_engine: Host) -> None:
    """Every word but --install-engine is handed on, whatever is in it, and nothing is said or done beside."""
    done = host_with_engine.run("up", "--install-engine", "-s", "a b", "", "$(id)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "<up><-s><a b><><$(id)>", "")
    assert host_with_engine.changes() == ""


@pytest.mark.parametrize(
    "words",
    [("status",), ("up", "--help"), ("workshop", "test", "WKSHP-X"), ("--state", "up", "config", "show"), ()],
)
def test_commands_that_need_no_engine_ask_for_none(host: Host, words: tuple[str, ...]) -> None:
    """What works without an engine is handed over on a host that has none."""
    assert host.run(*words).returncode == 0


@pytest.mark.parametrize(
    "words", [("up",), ("--state", "/srv/x", "build"), ("--project=b", "check"), ("test",)]
)
def test_commands_that_need_an_engine_say_what_they_would_install(host: Host, words: tuple[str, ...]) -> None:
    """Without a terminal nobody can say yes: the packages and their mirror are named, and nothing is done."""
    done = host.run(*words)
    assert done.returncode == 4
    assert "docker.io docker-cli docker-compose docker-buildx apparmor mmdebstrap" in done.stderr
    assert "mirror.example/debian/" in done.stderr
    assert "--install-engine" in done.stderr
    assert "secret" not in done.stderr
    assert host.changes() == ""
    assert not list((host.folder / "etc/apt/preferences.d").iterdir())


def test_debian_12_takes_the_engine_from_debian_13(host: Host) -> None:
    """The new source has the mirror and the keyring of the host's own, and gives only Docker's packages."""
    done = host.run("up", "--install-engine")
    assert done.returncode == 0, done.stderr
    source = (host.folder / "etc/apt/sources.list.d/wod-trixie.sources").read_text()
    assert source == (
        "Types: deb\nURIs: http://me:secret@mirror.example/debian/\nSuites: trixie\nComponents: main\n"
        "Signed-By: /keys/site.gpg\n"
    )
    pins = (host.folder / "etc/apt/preferences.d/wod-trixie").read_text()
    assert pins.startswith("Package: *\nPin: release n=trixie\nPin-Priority: 50\n")
    assert host.changes().startswith("update\n")


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("yes", 0), ("n", 4), ("", 4)])
def test_a_question_is_asked_at_a_terminal(host: Host, answer: str, code: int) -> None:
    """At a terminal a yes installs, and anything else leaves the host as it is."""
    terminal, end_of_the_script = pty.openpty()
    os.write(terminal, f"{answer}\n".encode())
    done = host.run("up", standard_input=end_of_the_script)
    assert "Install them? [y/N]" in done.stderr
    assert done.returncode == code, done.stderr
    assert ("docker.io" in host.changes()) == (code == 0)


def test_a_one_line_source_gives_its_keyring_too(host: Host) -> None:
    """A source of the older form is understood: the keyring is that of the very line."""
    sources = host.folder / "etc/apt/sources.list"
    sources.write_text(
        "deb [signed-by=/keys/other.gpg] http://other.example/ bookworm main\n"
        "deb [arch=amd64 signed-by=/keys/site.gpg] http://mirror.example/debian bookworm main\n"
    )
    (host.folder / "targets").write_text(f"$(ORIGIN) http://mirror.example/debian/ {sources}:2\n")
    assert host.run("up", "--install-engine").returncode == 0
    source = (host.folder / "etc/apt/sources.list.d/wod-trixie.sources").read_text()
    assert "URIs: http://mirror.example/debian/\n" in source
    assert "Signed-By: /keys/site.gpg\n" in source


@pytest.mark.parametrize(
    ("release", "packages"),
    [
        (
            DEBIAN_13,
            "docker.io docker-cli docker-compose docker-buildx apparmor mmdebstrap debian-archive-keyring",
        ),
        (UBUNTU, "docker.io docker-compose-v2 docker-buildx apparmor mmdebstrap debian-archive-keyring"),
    ],
)
def test_newer_systems_use_their_own_packages(host: Host, release: str, packages: str) -> None:
    """Where the distribution's own engine is new enough, no source is added."""
    host.is_a(release)
    done = host.run("up", "--install-engine")
    assert done.returncode == 0, done.stderr
    assert host.changes().endswith(f" {packages}\n")
    assert not (host.folder / "etc/apt/sources.list.d/wod-trixie.sources").exists()


def test_an_unknown_system_is_told_what_to_install(host: Host) -> None:
    """On a distribution that we cannot install on, the message says so, whatever was agreed to."""
    host.is_a(FEDORA)
    done = host.run("up", "--install-engine")
    assert done.returncode == 4
    assert "Fedora Linux 43" in done.stderr
    assert host.changes() == ""


def test_a_user_who_may_not_speak_to_the_engine_is_told_of_the_group(host_with_engine: Host) -> None:
    """Where the engine answers to root only, nothing is installed, and the message names group and sudo."""
    refusal = "permission denied while trying to connect to the Docker daemon socket"
    host_with_engine.has("docker", f'[ "$1" != version ] || {{ echo "{refusal}" >&2; exit 1; }}')
    done = host_with_engine.run("up", "--install-engine")
    assert done.returncode == 4
    assert "may not speak to it" in done.stderr
    assert "group docker" in done.stderr
    assert host_with_engine.changes() == ""


def test_without_root_and_sudo_nothing_can_be_installed(host: Host) -> None:
    """A user without sudo is told that root is needed."""
    host.has("id", "echo 1000")
    done = host.run("up", "--install-engine")
    assert done.returncode == 4
    assert "needs root" in done.stderr


def test_with_sudo_a_user_installs_as_root(host: Host) -> None:
    """What changes the host goes through sudo for a user who is not root."""
    host.has("id", "echo 1000")
    host.has("sudo", 'echo "sudo $1" >> "$HOST/done"; exec "$@"')
    assert host.run("up", "--install-engine").returncode == 0
    assert "sudo apt-get\nupdate\n" in host.changes()


def test_a_stopped_engine_is_started(host_with_engine: Host) -> None:
    """Without systemd, dockerd is started in a session of its own, and its words are kept."""
    (host_with_engine.folder / "engine").unlink()
    host_with_engine.has("dockerd", 'echo hello; touch "$HOST/engine"')
    host_with_engine.has("sleep", "/bin/sleep 0.05")
    done = host_with_engine.run("up")
    assert (done.returncode, done.stdout) == (0, "<up>")
    assert (host_with_engine.folder / "log/wod-dockerd.log").read_text() == "hello\n"
    assert host_with_engine.changes() == ""


def test_with_systemd_the_engine_is_its_service(host_with_engine: Host) -> None:
    """Under systemd the service is started instead."""
    (host_with_engine.folder / "engine").unlink()
    (host_with_engine.folder / "systemd/system").mkdir(parents=True)
    host_with_engine.has("dockerd", "exit 1")
    host_with_engine.has("systemctl", 'echo "systemctl $*" >> "$HOST/done"; touch "$HOST/engine"')
    assert host_with_engine.run("up").returncode == 0
    assert host_with_engine.changes() == "systemctl start docker\n"


def test_an_engine_that_does_not_start_shows_its_last_words(host_with_engine: Host) -> None:
    """The end of dockerd's own log tells why it did not come up."""
    (host_with_engine.folder / "engine").unlink()
    host_with_engine.has("dockerd", "echo no iptables here")
    done = host_with_engine.run("up")
    assert done.returncode == 4
    assert "no iptables here" in done.stderr
    assert "does not answer" in done.stderr


def test_an_engine_elsewhere_is_never_replaced(host_with_engine: Host) -> None:
    """With DOCKER_HOST set, no engine is installed or started here."""
    (host_with_engine.folder / "engine").unlink()
    done = host_with_engine.run("up", "--install-engine", DOCKER_HOST="tcp://far.example:2376")
    assert done.returncode == 4
    assert "tcp://far.example:2376" in done.stderr
    assert host_with_engine.changes() == ""


def test_plug_ins_of_a_foreign_engine_are_left_to_its_owner(host_with_engine: Host) -> None:
    """An engine that is not the distribution's gets no plug-ins from the distribution."""
    (host_with_engine.folder / "plugins").unlink()
    host_with_engine.has("dpkg-query", "exit 1")
    done = host_with_engine.run("up", "--install-engine")
    assert done.returncode == 4
    assert "docker buildx" in done.stderr
    assert host_with_engine.changes() == ""


def test_plug_ins_of_the_distributions_engine_are_installed(host_with_engine: Host) -> None:
    """An engine of the distribution that lacks Compose or Buildx gets them."""
    (host_with_engine.folder / "plugins").unlink()
    host_with_engine.has("dpkg-query")
    assert host_with_engine.run("up", "--install-engine").returncode == 0
    assert "docker-compose docker-buildx" in host_with_engine.changes()


def test_an_old_python_is_refused(host: Host) -> None:
    """A Python before 3.10 is named, with the version that is needed."""
    (host.checkout / ".venv/place.stamp").unlink()
    host.has("python3", "case $1 in --version) echo Python 3.9.2 ;; *) exit 1 ;; esac")
    done = host.run("status")
    assert done.returncode == 1
    assert "Python 3.9.2 is too old; 3.10 or later is needed" in done.stderr


def test_a_host_without_python_is_told(host: Host) -> None:
    """Without python3 there is a sentence instead of the shell's complaint."""
    (host.checkout / ".venv/place.stamp").unlink()
    done = host.run("status")
    assert done.returncode == 1
    assert done.stderr.startswith("wod: python3 is not installed")


def test_a_python_without_venv_gets_it_with_the_same_consent(host: Host) -> None:
    """Debian's python3 without python3-venv: the package is one more of those that are asked for."""
    (host.checkout / ".venv/place.stamp").unlink()
    host.has("python3", 'case $2 in *ensurepip*) [ -e "$HOST/engine" ] ;; esac')
    assert host.run("status").returncode == 4
    done = host.run("status", "--install-engine")
    assert done.returncode == 0, done.stderr
    assert host.changes().splitlines()[1].endswith("install --no-install-recommends python3-venv")


@pytest.mark.parametrize("name", ["pyproject.toml", "requirements.lock"])
def test_changed_requirements_are_installed_once(host: Host, name: str) -> None:
    """When what the environment is made of has changed, pip runs at the next call, and only then."""
    with (host.checkout / name).open("a") as file:
        file.write("\n# changed\n")
    host.has("python3")
    assert host.run("status").returncode == 0
    installed = host.changes()
    assert "--require-hashes --requirement" in installed
    assert "--no-deps --no-build-isolation --editable" in installed
    assert host.run("status").returncode == 0
    assert host.changes() == installed


def test_only_the_tests_install_what_the_tests_need(host_with_engine: Host) -> None:
    """`./wod test` has a lock file of its own; other commands do not care about it."""
    (host_with_engine.checkout / ".venv/requirements-test.lock.stamp").unlink()
    host_with_engine.has("python3")
    assert host_with_engine.run("up").returncode == 0
    assert host_with_engine.changes() == ""
    assert host_with_engine.run("test").returncode == 0
    assert "requirements-test.lock" in host_with_engine.changes()


def locked(name: str) -> dict[str, str]:
    """The versions that a lock file holds."""
    lines = (ROOT / name).read_text().splitlines()
    return dict(line.split(" ")[0].split("==") for line in lines if not line.startswith(" "))


def test_both_lock_files_agree() -> None:
    """Whatever both lock files hold, they hold in the same version; only one has what the tests need."""
    runtime, test = locked("requirements.lock"), locked("requirements-test.lock")
    assert runtime.items() <= test.items()
    assert "pytest" not in runtime


@pytest.mark.parametrize(
    ("table", "lock"), [("dependencies", "requirements.lock"), ("test", "requirements-test.lock")]
)
def test_the_lock_files_hold_every_requirement(table: str, lock: str) -> None:
    """What pyproject.toml asks for is in the lock file; where this fails, it must be compiled anew."""
    listed = re.search(
        rf"^{table} = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL
    )
    assert listed
    names = {name.lower() for name in re.findall(r'^ *"([\w.-]+)', listed[1], re.MULTILINE)}
    assert names and not names - locked(lock).keys()


def test_the_script_is_clean_posix_shell() -> None:
    """shellcheck finds nothing to say about ./wod."""
    program = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([program, "--shell=sh", ROOT / "wod"], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_the_script_is_executable() -> None:
    """`./wod` can be typed as the README says."""
    assert os.access(ROOT / "wod", os.X_OK)
