"""`wodctl check` on a running stack: all is green, and what is changed is found by its own check."""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, docker, free_port

SEAT = 30
APPLIANCES = ("Ansible101", "Docker101", "Spark101")
Found = set[tuple[str, str]]


@pytest.fixture(scope="module")
def lent(stack):
    """A stack that is as it should be, with a seat that is lent, and others that have an appliance."""
    # Addresses of the host that other tests made, and that are gone, are not known any more then.
    stack.wodctl("up")
    stack.wodctl("build-appliance", *APPLIANCES, timeout=1200)
    for seat, workshop in enumerate(("Welcome101", *APPLIANCES), SEAT):
        stack.wodctl("action", "submit", "CREATE", str(seat), "0", "-w", f"WKSHP-{workshop}", "--wait")
    yield stack
    stack.wodctl("student", "wipe", f"{SEAT}-{SEAT + len(APPLIANCES)}", "--yes")


def failing(stack) -> Found:
    """The checks of the configuration that fail, with the places where they do."""
    done = stack.wodctl("check", "--no-attacks", "--json", check=False)
    document = json.loads(done.stdout)
    failed = [one for one in document["checks"] if one["result"] == "failed"]
    print(*(f"{one['id']} at {one['where']}: {one['detail']}" for one in failed), sep="\n")
    found = {(one["id"], one["where"]) for one in failed}
    assert done.returncode == (5 if found else 0)
    return found


def test_all_is_green_within_a_minute_and_every_attack_fails(lent, artefacts):
    """Nothing fails on a stack that `up` has just started; each attempt ends as it must; reports say so."""
    page, suite = artefacts / "check.html", artefacts / "check.xml"
    start = time.monotonic()
    done = lent.wodctl("check", "--json", "--html", str(page), "--junit", str(suite), check=False)
    seconds = time.monotonic() - start
    document = json.loads(done.stdout)
    assert [one for one in document["checks"] if one["result"] == "failed"] == []
    assert (done.returncode, document["failed"]) == (0, 0)
    assert seconds < 60
    attempts = {one["id"]: one["seen"] for one in document["checks"] if one["id"].startswith("attacks/")}
    assert len(attempts) == 21
    assert all(attempts.values())
    assert attempts["attacks/neighbour"] == "no answer"
    assert not docker("ps", "--all", "--quiet", f"--filter=name={lent.project}-probe")
    assert f"<title>Compliance of {lent.url}</title>" in page.read_text()
    assert 'failures="0"' in suite.read_text()


def test_a_container_that_was_replaced_is_found_by_what_differs(lent, tmp_path):
    """Of nine services each is started anew with one thing other than it should be; each is found by one check."""
    replaced = {
        "db": {"security_opt": ["seccomp=unconfined"]},
        "doorman": {"privileged": True},
        "firewall": {"read_only": False},
        "gate": {"cap_add": ["SYS_PTRACE"]},
        "hub": {"environment": {"WOD_PASSWORD": "hunter2"}},
        "intake": {"mem_limit": "64m"},
        "mail": {"ipc": "host"},
        "proxy": {"ports": [f"0.0.0.0:{free_port()}:8099"]},
        "worker": {"volumes": ["/etc:/srv/etc:ro"]},
    }
    other = tmp_path / "other.yml"
    other.write_text(yaml.safe_dump({"services": replaced}))
    compose = ["compose", "-p", lent.project, "-f", str(ROOT / "compose/stack.yml"), "-f", str(other)]
    compose += ["--env-file", str(lent.state / "rendered/compose.env")]
    docker(*compose, "up", "--detach", "--wait", "--no-deps", *replaced)
    try:
        found = failing(lent)
    finally:
        lent.wodctl("up")
    assert found == {
        ("containers/its-security-options-are-as-agreed", "db"),
        ("containers/it-is-not-privileged", "doorman"),
        ("containers/its-root-is-read-only", "firewall"),
        ("containers/it-has-only-the-capabilities-it-needs", "gate"),
        ("containers/its-environment-holds-no-secret", "hub"),
        ("containers/its-memory-is-limited", "intake"),
        ("containers/its-namespaces-are-its-own", "mail"),
        ("containers/it-publishes-only-its-ports", "proxy"),
        ("containers/its-mounts-are-as-agreed", "worker"),
    }


@contextmanager
def text_of(path: Path, change: Callable[[str], str]) -> Iterator[None]:
    """The file with another text, at its place and as whose it is."""
    before, times = path.read_text(), path.stat()
    path.write_text(change(before))
    try:
        yield
    finally:
        path.write_text(before)
        # What services remember of secrets are their times.
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@contextmanager
def mode_of(path: Path, mode: int) -> Iterator[None]:
    """The file or folder with another mode."""
    before = path.stat().st_mode & 0o7777
    path.chmod(mode)
    try:
        yield
    finally:
        path.chmod(before)


@contextmanager
def done_and_undone(do: list[str], undo: list[str]) -> Iterator[None]:
    """Two words to the engine."""
    docker(*do)
    try:
        yield
    finally:
        docker(*undo)


def in_database(stack, do: str, undo: str):
    """Two statements of the database's owner."""
    psql = ["exec", stack.container("db"), "psql", "-q", "-U", "postgres", "-d", "wod", "-c"]
    return done_and_undone([*psql, do], [*psql, undo])


def in_packet_filter(stack, rule: str):
    """A rule more."""
    words = ["exec", stack.container("firewall"), "iptables-nft", "-w"]
    return done_and_undone([*words, "-I", *rule.split()], [*words, "-D", *rule.split()])


def stranger(stack, *options: str):
    """A container that is none of the stack's."""
    image = docker("inspect", "--format", "{{.Config.Image}}", stack.container("doorman")).strip()
    name = f"stranger-{os.getpid()}"
    options += ("--detach", f"--name={name}", "--entrypoint=sleep", image, "300")
    return done_and_undone(["run", *options], ["rm", "--force", name])


@contextmanager
def file_of(stack, service: str, path: str) -> Iterator[None]:
    """A file in a container with a line more, written from the host, for which it is not read-only; then it goes."""
    name = stack.container(service)
    merged = docker("inspect", "--format", "{{.GraphDriver.Data.MergedDir}}", name).strip()
    with Path(merged + path).open("a") as file:
        file.write("# changed\n")
    try:
        yield
    finally:
        docker("rm", "--force", name)


def bridge(stack) -> str:
    text = (stack.state / "rendered/compose.env").read_text()
    return re.search(r"^WOD_SEAT_BRIDGE=(\S+)$", text, re.MULTILINE)[1]


MUTATIONS = {
    "a limit raised": (
        lambda s: done_and_undone(
            ["update", "--pids-limit=4096", s.container("worker")],
            ["update", "--pids-limit=512", s.container("worker")],
        ),
        ("containers/its-processes-are-limited", "worker"),
    ),
    "a seat that weighs as much as a service": (
        lambda s: done_and_undone(
            ["update", "--cpu-shares=1024", f"{s.project}-student{SEAT}"],
            ["update", "--cpu-shares=16", f"{s.project}-student{SEAT}"],
        ),
        ("containers/its-share-of-processors-is-as-agreed", "seats"),
    ),
    "a service in another network": (
        lambda s: done_and_undone(
            ["network", "connect", f"{s.project}_edge", s.container("doorman")],
            ["network", "disconnect", f"{s.project}_edge", s.container("doorman")],
        ),
        ("containers/it-is-in-its-networks-only", "doorman"),
    ),
    "a service that does not run": (
        lambda s: done_and_undone(["stop", s.container("doorman")], ["start", s.container("doorman")]),
        ("containers/it-runs-and-is-healthy", "doorman"),
    ),
    "a container that says it is ours": (
        lambda s: stranger(s, f"--label=wod.project={s.project}", "--network=none"),
        ("containers/every-container-is-known", "others"),
    ),
    "a stranger in an internal network": (
        lambda s: stranger(s, f"--network={s.project}_control"),
        ("network/nobody-else-is-in-our-networks", "network"),
    ),
    "a packet rule that lets seats pass": (
        lambda s: in_packet_filter(s, f"DOCKER-USER -i {bridge(s)} -j ACCEPT"),
        ("network/nothing-passes-before-the-packet-rules", "network"),
    ),
    "a home that all may read": (
        lambda s: mode_of(s.state / f"data/students/student{SEAT}", 0o755),
        ("state/homes-are-their-participants-alone", "state"),
    ),
    "a secret that all may read": (
        lambda s: mode_of(s.state / "secrets/hub/admin-token", 0o444),
        ("state/secrets-are-their-readers-alone", "state"),
    ),
    "a socket's folder that all may enter": (
        lambda s: mode_of(s.state / "run/gate/worker", 0o2777),
        ("state/folders-have-their-owners-and-modes", "state"),
    ),
    "a password for all seats": (
        lambda s: text_of(s.state / "secrets/worker/fixed-password", lambda _: "open sesame\n"),
        ("state/one-password-opens-one-seat", "state"),
    ),
    "a gate that lets larger seats through": (
        lambda s: text_of(s.state / "rendered/gate.json", lambda text: text.replace('"2G"', '"64G"')),
        ("state/rendered-settings-are-those-of-the-site", "state"),
    ),
    "an open relay": (
        lambda s: text_of(
            s.state / "rendered/postfix/main.cf",
            lambda text: text.replace("= reject_unauth_destination", "= permit"),
        ),
        ("mail/main-cf-is-the-sites", "mail"),
    ),
    "orders from everywhere": (
        lambda s: text_of(
            s.state / "rendered/postfix/main.cf",
            lambda text: text.replace("mynetworks = ", "mynetworks = 0.0.0.0/0 ", 1),
        ),
        ("mail/main-cf-is-the-sites", "mail"),
    ),
    "a service that may read the seats": (
        lambda s: in_database(s, "GRANT SELECT ON wod.seat TO mail", "REVOKE SELECT ON wod.seat FROM mail"),
        ("database/tables-are-the-workers-alone", "database"),
    ),
    "a role with all powers": (
        lambda s: in_database(s, "ALTER ROLE hub SUPERUSER", "ALTER ROLE hub NOSUPERUSER"),
        ("database/roles-have-no-powers", "database"),
    ),
    "another procmailrc": (
        lambda s: file_of(s, "mail", "/etc/procmailrc"),
        ("mail/procmailrc-is-ours", "mail"),
    ),
    "a program of an image that was changed": (
        lambda s: file_of(s, "intake", "/usr/local/lib/wod/file_mail.py"),
        ("containers/its-files-are-the-images", "intake"),
    ),
}


# Changed together, each of another kind, so that each shows alone; files of containers last, which are then replaced.
ROUNDS = (
    (
        "a limit raised",
        "a home that all may read",
        "an open relay",
        "a service that may read the seats",
        "a packet rule that lets seats pass",
    ),
    (
        "a seat that weighs as much as a service",
        "a secret that all may read",
        "orders from everywhere",
        "a role with all powers",
        "a stranger in an internal network",
    ),
    (
        "a service in another network",
        "a socket's folder that all may enter",
        "a password for all seats",
        "a container that says it is ours",
    ),
    (
        "a service that does not run",
        "a gate that lets larger seats through",
        "another procmailrc",
        "a program of an image that was changed",
    ),
)


@pytest.mark.parametrize("names", ROUNDS, ids=lambda names: names[0])
def test_what_is_changed_is_found_by_its_own_check(lent, names):
    """Each thing that is other than it should be is found by the check that should find it, and by no other."""
    try:
        with ExitStack() as changed:
            for name in names:
                changed.enter_context(MUTATIONS[name][0](lent))
            found = failing(lent)
    finally:
        if names == ROUNDS[-1]:
            lent.wodctl("up")
    assert found == {MUTATIONS[name][1] for name in names}


def test_fail2ban_that_stopped_is_found(lent):
    """Where this host has the service that bans, it is missed when it does not run."""
    if "fail2ban" not in yaml.safe_load((ROOT / "compose/stack.yml").read_text())["services"]:
        return
    container = lent.container("fail2ban")
    with done_and_undone(["stop", container], ["start", container]):
        assert failing(lent) == {("containers/it-runs-and-is-healthy", "fail2ban")}
