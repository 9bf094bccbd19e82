"""Appliances on two other Docker hosts, one reached by TLS, the other by ssh: what their participants notice of that,
which is nothing; whom they are closed to; and what becomes of orders while a host is away.
"""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import yaml
from playwright.sync_api import expect

from tests.conftest import ROOT, docker
from tests.journey.docker_host import OtherHost, other_docker_host
from tests.journey.portal import send, wait_for_action
from tests.journey.test_participant import log_in, new_password

HIS, HERS, LATE = 41, 42, 43
RUNNER = ROOT / "wodctl" / "adapters" / "notebook_runner.py"


@dataclass(frozen=True)
class Elsewhere:
    """The site and its other hosts, which are one in truth."""

    stack: object
    host: OtherHost

    def create(self, seat: int) -> dict:
        send(self.stack, f"CREATE {seat} {1200 + seat}", "WKSHP-Ansible101")
        return wait_for_action(self.stack, 1200 + seat, "CREATE", timeout=120)

    def clean(self, seat: int) -> dict:
        send(self.stack, f"CLEANUP {seat} {1200 + seat}", "WKSHP-Ansible101")
        return wait_for_action(self.stack, 1200 + seat, "CLEANUP", timeout=120)

    def run(self, seat: int, *words: str) -> str:
        """What a command in a seat's own server says."""
        inside = ("docker", "exec", "-w", f"/student/student{seat}", f"{self.stack.project}-student{seat}")
        return subprocess.run(
            [*inside, *words], capture_output=True, text=True, timeout=60, check=False
        ).stdout

    def containers(self) -> list[str]:
        """Names of the project's containers over there."""
        listed = self.host.docker(
            "ps", "--all", "--format={{.Names}}", f"--filter=label=wod.project={self.stack.project}"
        )
        return sorted(listed.split())


@pytest.fixture(scope="module")
def elsewhere(stack, tmp_path_factory) -> Iterator[Elsewhere]:
    stack.wodctl("build-appliance", "Docker101", "Ansible101", timeout=3000)
    engine = json.loads((stack.state / "data" / "appliances" / "Docker101.json").read_text())["containers"][
        0
    ]["Image"]
    conf = stack.state / "conf" / "production.yml"
    former = conf.read_text() if conf.exists() else None
    with other_docker_host(engine, tmp_path_factory.mktemp("host")) as host:
        host.open_for(stack.state)
        made = Elsewhere(stack, host)
        try:
            by_tls, by_ssh = host.addresses
            said = {
                "WODAPPLIANCEHOSTS": [f"tcp://{by_tls}", f"ssh://root@{by_ssh}"],
                # The seats use them by turns: odd ones the first.
                "IP-WKSHP-Ansible101": [by_tls, by_ssh],
            }
            conf.write_text(yaml.safe_dump(said))
            stack.wodctl("up")
            yield made
        finally:
            conf.unlink() if former is None else conf.write_text(former)
            stack.wodctl("up")


@pytest.fixture(scope="module")
def ready(elsewhere) -> None:
    """Two seats with their appliances over there."""
    for seat in (HIS, HERS):
        created = elsewhere.create(seat)
        assert created["state"] == "done", created


def test_an_appliance_lives_on_the_host_that_the_site_names(elsewhere, ready):
    """And is reached from its seat by its name, whichever way the site reaches the host."""
    names = [f"{elsewhere.stack.project}-student{seat}-appliance" for seat in (HIS, HERS)]
    assert elsewhere.containers() == names
    assert docker("ps", "--all", "--quiet", *(f"--filter=name={name}" for name in names)) == ""
    listed = json.loads(elsewhere.stack.wodctl("appliance", "list", "--json").stdout)
    where = dict(zip((HIS, HERS), elsewhere.host.addresses, strict=True))
    assert all(any((row["seat"], row["where"]) == at for row in listed) for at in where.items())
    for seat, address in where.items():
        assert elsewhere.run(seat, "ssh", "ansible101", "id", "-un").strip() == f"student{seat}"
        assert f"HostName {address}" in elsewhere.run(seat, "cat", ".ssh/config")


def test_the_compliance_suite_knows_what_belongs_to_it(elsewhere, ready):
    """Keys for the gates, notes of the worker, a second gate: nothing of it is found fault with."""
    checks = json.loads(elsewhere.stack.wodctl("check", "--no-attacks", "--json", check=False).stdout)[
        "checks"
    ]
    assert [one for one in checks if one["result"] == "failed"] == []


def test_its_notebooks_run_as_they_do_beside_the_seat(elsewhere, ready):
    server, folder = f"{elsewhere.stack.project}-student{HIS}", f"/student/student{HIS}/WKSHP-Ansible101"
    words = [
        "docker",
        "exec",
        "-i",
        server,
        "/opt/wod/bin/python",
        "-I",
        "-",
        folder,
        "1-WKSHP-First-commands.ipynb",
    ]
    done = subprocess.run(words, input=RUNNER.read_bytes(), capture_output=True, timeout=200, check=False)
    outcome = json.loads(done.stdout)
    assert outcome["cells"] >= 3 and not outcome["failed"] and not outcome["problem"], outcome


def test_its_page_is_shown_under_his_login(elsewhere, ready, page, artefacts):
    log_in(page, elsewhere.stack, f"student{HIS}", new_password(elsewhere.stack, HIS))
    expect(page).to_have_url(re.compile("/lab"))
    page.goto(f"{elsewhere.stack.url}/user/student{HIS}/appliance/page/")
    expect(page.locator("body")).to_contain_text(f"student{HIS}")
    page.screenshot(path=artefacts / "elsewhere.png")


def test_two_seats_over_there_see_nothing_of_each_other(elsewhere, ready):
    """Neither from the neighbour's server, nor from his appliance; nor does a seat reach the engine itself."""
    find_port = ("sed", "-n", "s/^ *Port //p", ".ssh/config")
    his_port, her_port = (elsewhere.run(seat, *find_port).strip() for seat in (HIS, HERS))
    inside = json.loads(
        elsewhere.host.docker("inspect", f"{elsewhere.stack.project}-student{HIS}-appliance")
    )[0]
    (network,) = inside["NetworkSettings"]["Networks"].values()

    def knock(target: str, port: str) -> str:
        return f"timeout 3 bash -c 'exec 3<>/dev/tcp/{target}/{port}' && echo open"

    by_tls, by_ssh = elsewhere.host.addresses
    assert "open" in elsewhere.run(HIS, "bash", "-c", knock(by_tls, his_port))
    assert "open" in elsewhere.run(HERS, "bash", "-c", knock(by_ssh, her_port))
    for address, port in ((by_tls, his_port), (by_ssh, his_port), (by_ssh, "22"), (by_tls, "2376")):
        assert "open" not in elsewhere.run(HERS, "bash", "-c", knock(address, port)), port
    assert "open" not in elsewhere.run(HERS, "ssh", "ansible101", knock(network["IPAddress"], "22"))


def test_a_host_that_is_away_is_a_sentence_and_the_order_waits_for_it(elsewhere, ready):
    elsewhere.host.unplug()
    try:
        by_tls, by_ssh = (f"The Docker host {address} is away" for address in elsewhere.host.addresses)
        listed = elsewhere.stack.wodctl("appliance", "list").stderr
        assert by_tls in listed and by_ssh in listed
        failed = elsewhere.stack.wodctl("build-appliance", "Ansible101", check=False)
        assert failed.returncode != 0 and by_tls in failed.stderr and "Traceback" not in failed.stderr
        send(elsewhere.stack, f"CREATE {LATE} {1200 + LATE}", "WKSHP-Ansible101")
        end = time.monotonic() + 60
        while by_tls not in elsewhere.stack.wodctl("action", "list").stdout:
            assert time.monotonic() < end
            time.sleep(1)
    finally:
        elsewhere.host.plug_in()
    assert wait_for_action(elsewhere.stack, 1200 + LATE, "CREATE", timeout=120)["state"] == "done"


def test_nothing_is_left_over_there_at_the_end(elsewhere, ready):
    for seat in (HIS, LATE):
        assert elsewhere.clean(seat)["state"] == "done"
    send(elsewhere.stack, f"PURGE {HERS} {1200 + HERS}", "")
    assert wait_for_action(elsewhere.stack, 1200 + HERS, "PURGE", timeout=60)["state"] == "done"
    assert elsewhere.containers() == []
    assert elsewhere.host.docker("volume", "ls", "--quiet") == ""
    assert list((elsewhere.stack.state / "data" / "students" / ".appliances").iterdir()) == []
