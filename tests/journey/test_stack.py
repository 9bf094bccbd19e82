"""The stack as its operator sees it: started once, left alone by a second `up`, told apart from its seats."""

import json
import socket

import pytest

from tests.conftest import docker
from tests.journey.portal import seat, send, wait_for_action


def started_at(stack) -> dict[str, str]:
    names = docker(
        "ps", "--filter", f"label=com.docker.compose.project={stack.project}", "--format", "{{.Names}}"
    ).split()
    return {name: docker("inspect", "--format", "{{.Id}} {{.State.StartedAt}}", name) for name in names}


def test_every_service_is_healthy(stack):
    """`wodctl status --json` lists all services as running and healthy."""
    document = json.loads(stack.wodctl("status", "--json").stdout)
    assert document["url"] == stack.url
    assert {service["name"] for service in document["services"]} == {
        "db", "doorman", "egress", "fail2ban", "firewall", "gate", "hub", "intake", "mail", "proxy", "worker",
    }  # fmt: skip
    for service in document["services"]:
        assert (service["state"], service["health"]) == ("running", "healthy"), service
        assert service["memory_bytes"] > 0


def test_a_second_up_changes_nothing_and_restarts_nothing(stack):
    """Containers are the same, and so are their times of start."""
    before = started_at(stack)
    assert before
    stack.wodctl("up")
    assert started_at(stack) == before


def test_a_taken_port_is_named(stack):
    """A second stack on the same port is refused with the port and the setting."""
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other = stack.__class__(stack.state.with_name("wod-tests-2"), "wodtests2", port, 20026)
        refused = other.wodctl("up", check=False)
    assert refused.returncode == 5
    assert f"Port {port} (WODBEPORT)" in refused.stderr


def test_a_taken_port_is_named_even_while_the_stack_runs(stack):
    """A changed port that another program holds is refused before anything is stopped."""
    before = started_at(stack)
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        moved = stack.__class__(stack.state, stack.project, port, stack.mail_port)
        refused = moved.wodctl("up", check=False)
    assert refused.returncode == 5
    assert f"Port {port} (WODBEPORT)" in refused.stderr
    assert started_at(stack) == before


def test_a_changed_setting_restarts_only_those_who_read_it(stack):
    """More memory for seats concerns hub, gate and worker, and fail2ban begins after the hub; all others stay."""
    before = started_at(stack)
    site = stack.state / "conf/production.yml"
    site.write_text("WODSEATMEMORY: 1G\n")
    try:
        stack.wodctl("up")
        changed = {name for name, mark in started_at(stack).items() if before[name] != mark}
    finally:
        site.unlink()
    stack.wodctl("up")
    assert changed == {stack.container(service) for service in ("fail2ban", "gate", "hub", "worker")}


def test_a_missing_service_is_no_good_health(stack):
    """A service whose container is gone is shown as absent, and `status` does not end with 0."""
    docker("rm", "--force", stack.container("mail"))
    try:
        done = stack.wodctl("status", check=False)
    finally:
        stack.wodctl("up")
    assert done.returncode == 5
    assert "absent" in done.stdout


def test_another_state_directory_does_not_take_over_a_running_project(stack):
    """The same project name with another state directory is refused."""
    other = stack.__class__(stack.state.with_name("wod-tests-2"), stack.project, stack.port, stack.mail_port)
    refused = other.wodctl("up", check=False)
    assert refused.returncode == 5
    assert "another state directory" in refused.stderr


@pytest.fixture(scope="module")
def two_seats(stack):
    """Two seats with running servers."""
    for number in (20, 21):
        send(stack, f"CREATE {number} {6000 + number}", "WKSHP-Welcome101")
    for number in (20, 21):
        assert wait_for_action(stack, 6000 + number, "CREATE")["state"] == "done"
    yield
    for number in (20, 21):
        stack.wodctl(
            "action", "submit", "CLEANUP", str(number), str(6000 + number), "-w", "WKSHP-Welcome101", "--wait"
        )


REACH = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3).close()
except OSError as error:
    sys.exit(str(error))
"""


def reaches(stack, number: int, address: str, port: int) -> bool:
    seat_container = f"{stack.project}-student{number}"
    out = docker(
        "exec", seat_container, "python3", "-c", f"{REACH}\nprint('reached')", address, str(port), check=False
    )
    return "reached" in out


def address_of(container: str) -> dict[str, str]:
    networks = json.loads(docker("inspect", "--format", "{{json .NetworkSettings.Networks}}", container))
    return {name.split("_")[-1]: network["IPAddress"] for name, network in networks.items()}


def test_a_seat_reaches_the_hub_api_and_not_its_neighbours(stack, two_seats):
    """From a seat: the hub's API answers; neighbour, proxy, worker, mail, host and metadata do not."""
    hub, proxy = address_of(stack.container("hub"))["seats"], address_of(stack.container("proxy"))["seats"]
    neighbour = address_of(f"{stack.project}-student21")["seats"]
    gateway = docker(
        "network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", f"{stack.project}_seats"
    )
    gateway = gateway.strip() or hub.rsplit(".", 1)[0] + ".1"
    assert reaches(stack, 20, hub, 8081)
    attempts = {
        "neighbour": (neighbour, 8888),
        "proxy": (proxy, 8000),
        "proxy's API": (proxy, 8099),
        "proxy on control": (address_of(stack.container("proxy"))["control"], 8099),
        "hub on control": (address_of(stack.container("hub"))["control"], 8081),
        "mail": (address_of(stack.container("mail"))["mailin"], 10025),
        "host's published mail port": (gateway, stack.mail_port),
        "host's published web port": (gateway, stack.port),
        "metadata": ("169.254.169.254", 80),
    }
    # Each of them listens: who is let through does reach it.
    assert reaches(stack, 21, "127.0.0.1", 8888)
    assert [name for name, (address, port) in attempts.items() if reaches(stack, 20, address, port)] == []


def test_a_seat_has_no_rights(stack, two_seats):
    """No capability, no new privileges, read-only root, limits, only its own home, no socket of engine or database."""
    found = json.loads(docker("inspect", f"{stack.project}-student20"))[0]
    host = found["HostConfig"]
    assert host["CapDrop"] == ["ALL"] and not host["CapAdd"] and not host["Privileged"]
    assert host["ReadonlyRootfs"] and "no-new-privileges" in str(host["SecurityOpt"])
    assert host["Memory"] > 0 and host["PidsLimit"] > 0 and (host["NanoCpus"] > 0 or host["CpuQuota"] > 0)
    assert found["Config"]["User"] == "2020:2020"
    binds = {mount["Source"]: mount["Destination"] for mount in found["Mounts"] if mount["Type"] == "bind"}
    assert binds == {f"{stack.state}/data/students/student20": "/student/student20"}


def test_the_database_listens_on_no_network(stack):
    """The database has no network, and refuses root, who is nobody to it."""
    networks = json.loads(
        docker("inspect", "--format", "{{json .NetworkSettings.Networks}}", stack.container("db"))
    )
    assert list(networks) == ["none"]
    ask = ("psql", "--username=wod", "--tuples-only", "--command=SELECT 1", "wod")
    answers = {
        uid: docker("exec", f"--user={uid}", stack.container("db"), *ask, check=False).strip()
        for uid in ("1804", "0", "2003")
    }
    assert answers == {"1804": "1", "0": "", "2003": ""}


def test_seats_are_shown_as_they_are(stack, two_seats):
    """`student show` tells seat, user, workshop, lease and server."""
    found = seat(stack, 20)
    assert (found["seat"], found["user"], found["state"], found["server"]) == (
        20,
        "student20",
        "ready",
        "ready",
    )
    assert (found["workshop"], found["mode"], found["customer"]) == ("WKSHP-Welcome101", "WKSHP", 6020)
    assert found["lease_until"] and found["url"].startswith(f"{stack.url}/user/student20/lab")
