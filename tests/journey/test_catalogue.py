"""Each appliance of the catalogue, as its participant meets it: a mail, the notebooks of its workshop in his own seat,
his browser, and at the end nothing left. And two participants side by side, who see nothing of each other.
"""

import http.client
import json
import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import yaml
from playwright.sync_api import expect

from tests.conftest import ROOT, docker
from tests.journey.portal import send, wait_for_action
from tests.journey.test_participant import log_in, new_password, wait_for_kernel

SEATS = {
    "Docker101": 31,
    "Podman101": 32,
    "Podman201": 33,
    "Ansible101": 34,
    "Spark101": 35,
    "ML101": 36,
    "DataVisu101": 37,
    "Tensorflow101": 38,
}
RUNNER = ROOT / "wodctl" / "adapters" / "notebook_runner.py"
PYTHON = "/opt/wod/bin/python"


@dataclass(frozen=True)
class Seat:
    """A participant with his workshop: what became of his CREATE, and where his containers are."""

    number: int
    workshop: str
    project: str
    created: dict

    @property
    def server(self) -> str:
        return f"{self.project}-student{self.number}"

    @property
    def appliance(self) -> str:
        return f"{self.server}-appliance"

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command in his own server, as himself."""
        words = ("docker", "exec", "-w", f"/student/student{self.number}", self.server, *words)
        return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)

    def over_there(self, command: str) -> str:
        """What a command in his appliance says, by ssh from his server."""
        return self.run("ssh", self.workshop.lower(), command).stdout.strip()

    def run_notebooks(self) -> list[dict]:
        """Run all notebooks of his workshop in his server, each with its own kernel."""
        folder = f"/student/student{self.number}/WKSHP-{self.workshop}"
        names = sorted(self.run("sh", "-c", f"cd {folder} && ls *.ipynb").stdout.split())
        words = ["docker", "exec", "-i", self.server, PYTHON, "-I", "-", folder, *names]
        done = subprocess.run(words, input=RUNNER.read_bytes(), capture_output=True, timeout=600, check=False)
        outcomes = [json.loads(line) for line in done.stdout.splitlines()]
        assert [outcome["notebook"] for outcome in outcomes] == names, done.stderr.decode()[-2000:]
        return outcomes

    def value(self, name: str) -> str:
        """A value of the workshop as it was written into his notebooks, where they name it in a link or an address."""
        seen = self.run("sh", "-c", f"cat ~/WKSHP-{self.workshop}/*.ipynb").stdout
        return re.search(rf"\]\(({name})\)", seen)[1]


@contextmanager
def engine_log() -> Iterator[list[dict]]:
    """What the engine notes of images, builds and new containers while the `with` lasts; filled at its end."""
    # Two calls, since filters of different kinds have to be met at the same time.
    filters = (
        ("--filter=type=image", "--filter=type=builder"),
        ("--filter=type=container", "--filter=event=create"),
    )
    words = ["docker", "events", "--format={{json .}}"]
    running = [subprocess.Popen([*words, *some], stdout=subprocess.PIPE, text=True) for some in filters]
    found: list[dict] = []
    try:
        yield found
    finally:
        time.sleep(1)
        for process in running:
            process.terminate()
            found += [json.loads(line) for line in process.communicate()[0].splitlines()]


@pytest.fixture(scope="module")
def log() -> list[dict]:
    """The engine's log of the orders of all seats."""
    return []


@pytest.fixture(scope="module")
def seats(stack, log) -> Iterator[dict[str, Seat]]:
    """All appliances of the catalogue at once, and a second Docker host, each ordered by a mail."""
    stack.wodctl("build-appliance", *SEATS, timeout=3000)
    wanted = [*((n, name) for name, n in SEATS.items()), (39, "Docker101")]
    made = {}
    with engine_log() as noted:
        for number, name in wanted:
            send(stack, f"CREATE {number} {900 + number}", f"WKSHP-{name}")
        for number, name in wanted:
            created = wait_for_action(stack, 900 + number, "CREATE", timeout=300)
            assert created["state"] == "done", created
            made["neighbour" if number == 39 else name] = Seat(number, name, stack.project, created)
    log += noted
    yield made
    clean(
        stack, [seat for seat in made.values() if docker("ps", "--quiet", "--filter", f"name={seat.server}")]
    )


def clean(stack, seats: list[Seat]) -> None:
    """Take these seats back, by mails that come at once."""
    for seat in seats:
        send(stack, f"CLEANUP {seat.number} {900 + seat.number}", f"WKSHP-{seat.workshop}")
    for seat in seats:
        ended = wait_for_action(stack, 900 + seat.number, "CLEANUP", timeout=300)
        assert ended["state"] == "done", ended


@pytest.fixture(scope="module")
def worked(seats) -> dict[str, list[dict]]:
    """What became of the notebooks of each workshop: three participants work at a time."""
    with ThreadPoolExecutor(3) as pool:
        running = {name: pool.submit(seats[name].run_notebooks) for name in SEATS}
        return {name: each.result() for name, each in running.items()}


def test_nothing_is_built_while_a_participant_waits(seats, log):
    """The engine's own log of all CREATEs: containers were made of images that were there, and no image was touched."""
    servers = {seat.server for seat in seats.values()}
    names = [event["Actor"]["Attributes"]["name"] for event in log if event["Type"] == "container"]
    assert {name for name in names if name.removesuffix("-appliance") in servers} == {
        *servers, *(f"{name}-appliance" for name in servers)
    }  # fmt: skip
    # Others may build on this host meanwhile, but nothing that seats or appliances are made of.
    used = {
        json.loads(docker("inspect", name))[0]["Image"]
        for name in names
        if name.removesuffix("-appliance") in servers
    }
    touched = [event["Actor"] for event in log if event["Type"] == "image"]
    ours = [one for one in touched if one["ID"] in used or "wod/appliance/" in json.dumps(one)]
    assert not ours, ours


@pytest.mark.parametrize("name", SEATS)
def test_the_notebooks_of_a_workshop_run_against_its_appliance(worked, name):
    """Every cell of every notebook, with its own kernel, in the participant's own server."""
    assert worked[name]
    assert all(not outcome["failed"] and not outcome["problem"] for outcome in worked[name]), worked[name]
    assert sum(outcome["cells"] for outcome in worked[name]) >= 3


@pytest.mark.parametrize("name", SEATS)
def test_an_appliance_has_no_right_that_its_manifest_does_not_name(seats, name):
    """Not privileged, no namespace, file or device of the host, only named capabilities; nobody can become root."""
    seat = seats[name]
    manifest = yaml.safe_load((ROOT / "images" / "appliances" / name / "appliance.yml").read_text())
    named = set(manifest.get("privileges", {}))
    shown = json.loads(docker("inspect", seat.appliance))[0]
    host = shown["HostConfig"]
    assert not host["Privileged"] and host["ReadonlyRootfs"]
    assert {c.removeprefix("CAP_") for c in host["CapAdd"] or []} <= named
    assert {c.removeprefix("CAP_") for c in host["CapDrop"]} == {"ALL"}
    assert {device["PathOnHost"] for device in host["Devices"] or []} <= named
    assert (host["PidMode"], host["UTSMode"], host["UsernsMode"]) == ("", "", "")
    assert host["IpcMode"] in ("private", "none") and host["CgroupnsMode"] == "private"
    assert host["NetworkMode"] not in ("host", "bridge", "default")
    assert {mount["Type"] for mount in shown["Mounts"]} == {"volume"}
    assert host["Memory"] and host["PidsLimit"] and host["NanoCpus"] + host["CpuQuota"]
    assert shown["Config"]["User"] == f"{2000 + seat.number}:{2000 + seat.number}"
    uids = docker("exec", seat.appliance, "sh", "-c", "grep -h ^Uid: /proc/[0-9]*/status | sort -u").split()
    assert "0" not in uids
    suspicious = docker(
        "exec", seat.appliance, "find", "/", "-xdev", "-type", "f", "-perm", "/6000", check=False
    )
    assert suspicious == ""


def test_a_participant_of_docker101_cannot_become_root_of_the_host(seats):
    """He has the system paths that his containers need; as nobody but himself, so they are closed to him."""
    seat = seats["Docker101"]
    before = docker("exec", seat.appliance, "cat", "/proc/sys/kernel/core_pattern")
    for command in (
        "echo x > /proc/sys/kernel/core_pattern",
        "docker run --rm --privileged busybox sh -c 'echo x > /proc/sys/kernel/core_pattern'",
        "docker run --rm --pid=host --net=host -v /:/host busybox sh -c 'echo x > /host/proc/sys/kernel/core_pattern'",
        "docker run --rm -v /:/host busybox cat /host/etc/shadow",
        "docker run --rm -v /:/host busybox touch /host/usr/bin/mine",
        "unshare --user sleep 9 & sleep 0.3; newuidmap $! 0 0 1",
    ):
        done = seat.run("ssh", "docker101", command)
        assert done.returncode != 0, (command, done.stdout)
    assert docker("exec", seat.appliance, "cat", "/proc/sys/kernel/core_pattern") == before


def test_two_docker_hosts_see_nothing_of_each_other(seats, worked):
    """Neither containers, images nor files, nor a door: neither from the neighbour's server nor from his appliance."""
    mine, neighbour = seats["Docker101"], seats["neighbour"]
    mine.over_there("docker run --detach --name secret busybox sleep 600; touch ~/secret")
    assert "secret" in mine.over_there("docker ps --format '{{.Names}}'; ls")
    assert "secret" not in neighbour.over_there("docker ps --all --format '{{.Names}}'; ls; find /student")
    assert "busybox" not in neighbour.over_there("docker images")
    networks = json.loads(docker("inspect", mine.appliance))[0]["NetworkSettings"]["Networks"]
    (address,) = {network["IPAddress"] for network in networks.values()} - {""}
    port = mine.over_there("printenv HTTPPORT")
    mine.over_there(f"docker run --detach --rm --name open --publish {port}:8080 busybox httpd -f -p 8080")
    from_outside = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60)
    from_outside.request("GET", "/")
    assert from_outside.getresponse().status in (200, 404)
    gateways = docker("network", "inspect", "--format={{range .IPAM.Config}}{{.Gateway}} {{end}}", "bridge",
                      f"{mine.project}_seats", f"{mine.project}_edge").split()  # fmt: skip
    # Also the port that is published for everybody else, by whatever address the host has.
    doors = [f"{address}/{number}" for number in (21, 22, 2375, port)] + [
        f"{place}/{port}" for place in gateways
    ]
    knocks = (
        "".join(f"(timeout 4 bash -c 'exec 3<>/dev/tcp/{door}' && echo {door}) 2>&- & " for door in doors)
        + "wait; echo tried"
    )
    assert neighbour.run("bash", "-c", knocks).stdout.split() == ["tried"]
    assert neighbour.over_there(knocks).split() == ["tried"]
    assert f"{address}/22" in mine.run("bash", "-c", knocks).stdout
    mine.over_there("docker kill open")
    assert neighbour.run("ls", "/student").stdout.split() == [f"student{neighbour.number}"]
    assert neighbour.over_there("ls /student").split() == [f"student{neighbour.number}"]


def test_each_lease_has_a_host_key_of_its_own_and_lets_in_nobody_else(seats):
    """The keys differ from one seat to the next, no image holds one, and no password opens."""
    keys = {
        seat.run("ssh-keyscan", "-t", "ed25519", seat.workshop.lower()).stdout.split()[-1]
        for seat in seats.values()
    }
    assert len(keys) == len(seats)
    for name, seat in seats.items():
        image = json.loads(docker("inspect", seat.appliance))[0]["Image"]
        assert (
            docker("run", "--rm", "--entrypoint", "sh", image, "-c", "ls /etc/ssh | grep host_ || true") == ""
        ), name
        without = ("-o", "PubkeyAuthentication=no", "-o", "BatchMode=yes")
        assert "publickey" in seat.run("ssh", "-v", *without, seat.workshop.lower(), "true").stderr


def test_a_page_of_his_container_is_shown_under_his_login(stack, seats, worked, page, artefacts):
    """The participant of Docker101 publishes a page, and follows the link in his notebook."""
    seat = seats["Docker101"]
    port = seat.over_there("printenv HTTPPORT")
    seat.over_there(f"docker run --detach --init --publish {port}:8080 page")
    log_in(page, stack, f"student{seat.number}", new_password(stack, seat.number))
    expect(page).to_have_url(re.compile("/lab"))
    page.goto(seat.value("http[^)]*/page/"))
    expect(page.get_by_role("heading")).to_have_text("It works!")
    page.screenshot(path=artefacts / "docker101.png")


def test_the_jupyterlab_of_spark_runs_a_job_in_the_browser(stack, seats, worked, page, artefacts):
    """He follows the link with the token, runs the first cells of the sample notebook, and sees Spark's own page."""
    seat = seats["Spark101"]
    log_in(page, stack, f"student{seat.number}", new_password(stack, seat.number))
    expect(page).to_have_url(re.compile("/lab"))
    page.goto(seat.value("http[^)]*/lab/lab[?]token=[^)]*"))
    page.locator(".jp-DirListing-item", has_text="First-steps.ipynb").dblclick()
    panel = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
    wait_for_kernel(page)
    panel.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")
    expect(panel).to_contain_text("only showing top 3 rows", timeout=120_000)
    page.screenshot(path=artefacts / "spark101.png")
    page.goto(seat.value("http[^)]*/ui/jobs/"))
    expect(page.locator("body")).to_contain_text("Spark Jobs")
    page.screenshot(path=artefacts / "spark101-ui.png")


def test_cleanup_takes_every_appliance_away_with_all_it_held(stack, seats, worked):
    """Container, volumes, pages, home: nothing is left of any seat of the catalogue once its CLEANUP is done."""
    volumes = {
        name: {mount["Name"] for mount in json.loads(docker("inspect", seat.appliance))[0]["Mounts"]}
        for name, seat in seats.items()
    }
    clean(stack, list(seats.values()))
    there = set(docker("volume", "ls", "--quiet").split())
    for name, seat in seats.items():
        assert docker("ps", "--all", "--quiet", "--filter", f"name={seat.server}") == "", name
        assert volumes[name] and not volumes[name] & there, name
        assert not (stack.state / f"data/routes/appliance-student{seat.number}.yaml").exists(), name
        assert not (stack.state / f"data/students/student{seat.number}").exists(), name
