"""The watchdogs on the whole stack: who burns a processor or fills the disk is found, who works is left in peace."""

import json
import time

import pytest
from playwright.sync_api import expect

from tests.conftest import docker
from tests.journey.portal import actions, seat, send, wait_for_action
from tests.journey.test_participant import log_in, new_password, open_notebook, wait_for_kernel

RUNAWAY, ALLOWED, BUSY, MINER = 11, 12, 13, 14

HASTY = {"runaways": "WODRUNAWAYMINUTES: 0.1\nWODRUNAWAYCPUS: 0.9\nWODALLOWED: ['allowed-*']\nWODDENIED: [xmrig]\n",
         "kernels": "WODKERNELHOURS: 0.001\n",
         "idle": "WODIDLEHOURS: 0.001\n",
         "disk": "WODSEATDISK: 32M\n"}  # fmt: skip
"""Settings with which a watchdog waits for seconds instead of minutes and hours."""


@pytest.fixture
def hasten(stack):
    """Gives the stack's watchdogs the settings of one that is in haste; the usual ones come back at the end."""
    file = stack.state / "conf" / "production.yml"
    former = file.read_text() if file.exists() else ""

    def with_settings(name: str) -> None:
        file.write_text(former + HASTY[name])
        stack.wodctl("up", timeout=600)

    yield with_settings
    file.write_text(former)
    stack.wodctl("up", timeout=600)


def look(stack, name: str) -> str:
    """A round of a watchdog, now."""
    return stack.wodctl("watchdog", "run", name).stdout


def reports(stack, number: int, kind: str) -> list[str]:
    """What the watchdogs did about a seat, as the operator reads it."""
    return [
        a["reason"]
        for a in actions(stack)
        if (a["source"], a["seat"], a["action"]) == ("watchdog", number, kind)
    ]


def in_seat(stack, number: int, program: str, *, detach: bool = True) -> None:
    """Let the participant of a seat run something in a terminal."""
    options = ["--detach"] if detach else []
    docker("exec", *options, f"{stack.project}-student{number}", "bash", "-c", program)


def run_cell(page, code: str) -> None:
    """Put code into the first code cell of the notebook in front, and run it."""
    cell = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell").first
    wait_for_kernel(page)
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(code)
    page.keyboard.press("Control+Enter")


def test_who_burns_is_stopped_and_who_works_is_not(stack, hasten, page):
    """A runaway is warned, then stopped; a miner at once; an allowed program and a busy kernel go on."""
    hasten("runaways")
    for number in (RUNAWAY, ALLOWED, BUSY, MINER):
        send(stack, f"CREATE {number} {number}00", "WKSHP-Welcome101")
    for number in (RUNAWAY, ALLOWED, BUSY, MINER):
        assert wait_for_action(stack, number * 100, "CREATE")["state"] == "done"
    log_in(page, stack, f"student{BUSY}", new_password(stack, BUSY))
    open_notebook(page, "1-WKSHP-Python.ipynb")
    run_cell(page, "import subprocess\nsubprocess.run(['bash', '-c', 'while :; do :; done'])")
    in_seat(stack, RUNAWAY, "exec -a sort bash -c 'while :; do :; done'")
    in_seat(stack, ALLOWED, "cp /bin/bash ~/allowed-solver && exec ~/allowed-solver -c 'while :; do :; done'")
    in_seat(stack, MINER, "cp /bin/bash ~/xmrig && exec ~/xmrig -c 'while :; do :; done'")

    end = time.monotonic() + 90
    while not reports(stack, RUNAWAY, "STOP") and time.monotonic() < end:
        look(stack, "runaways")
        time.sleep(3)
    assert "without a kernel at work" in reports(stack, RUNAWAY, "REPORT")[0]
    assert "was stopped" in reports(stack, RUNAWAY, "STOP")[0]
    assert "xmrig" in reports(stack, MINER, "STOP")[0]
    assert seat(stack, RUNAWAY)["server"] == seat(stack, MINER)["server"] == "stopped"
    assert seat(stack, ALLOWED)["server"] == seat(stack, BUSY)["server"] == "ready"
    for number in (ALLOWED, BUSY):
        assert not reports(stack, number, "STOP") + reports(stack, number, "REPORT")
    assert "program" in seat(stack, RUNAWAY)["notices"][0]

    # The kernel is older than allowed from now on: it gives way to a fresh one, and the participant is told.
    hasten("kernels")
    assert f"Seat {BUSY}: a kernel was ended" in look(stack, "kernels")
    expect(page.locator("#wod-notices").get_by_role("alert").filter(has_text="kernel")).to_be_visible(
        timeout=60_000
    )
    # JupyterLab learns that a kernel which somebody else has started is idle when it next asks it something.
    page.reload()
    wait_for_kernel(page)

    # His server stops when he has been away; he finds his work again.
    run_cell(page, "open('kept.txt', 'w').write('my work')")
    page.wait_for_timeout(1000)
    docker("exec", f"{stack.project}-student{BUSY}", "test", "-s", "WKSHP-Welcome101/kept.txt")
    page.goto("about:blank")
    hasten("idle")
    end = time.monotonic() + 30
    while seat(stack, BUSY)["server"] != "stopped" and time.monotonic() < end:
        look(stack, "idle")
        time.sleep(2)
    assert "nobody has used the server" in reports(stack, BUSY, "STOP")[0]
    page.goto(f"{stack.url}/user/student{BUSY}/lab")
    expect(page.locator(".jp-DirListing-item", has_text="kept.txt")).to_be_visible(timeout=60_000)

    rounds = {dog["name"]: dog for dog in json.loads(stack.wodctl("watchdog", "list", "--json").stdout)}
    assert all(
        rounds[name]["last"] and rounds[name]["next"] for name in ("runaways", "kernels", "idle", "disk")
    )


def test_a_home_that_grows_too_large_is_found_and_a_free_seat_has_nothing_left(stack, hasten):
    """Who fills the disk is warned, and stopped where he goes on; what a free seat still has is removed."""
    hasten("disk")
    send(stack, "CREATE 15 1500", "WKSHP-Welcome101")
    assert wait_for_action(stack, 1500, "CREATE")["state"] == "done"
    in_seat(stack, 15, "head -c 40M /dev/urandom > large", detach=False)
    assert "40 MiB, of 32 MiB" in look(stack, "disk")
    assert "remove what you do not need" in seat(stack, 15)["notices"][0]
    assert seat(stack, 15)["server"] == "ready"
    in_seat(stack, 15, "head -c 40M /dev/urandom >> large", detach=False)
    look(stack, "disk")
    assert "was stopped" in reports(stack, 15, "STOP")[0]
    assert seat(stack, 15)["server"] == "stopped"

    send(stack, "CLEANUP 15 1500", "WKSHP-Welcome101")
    assert wait_for_action(stack, 1500, "CLEANUP")["state"] == "done"
    left = stack.state / "data/students/student15"
    left.mkdir()
    assert "Seat 15 is free and had a home." in look(stack, "orphans")
    end = time.monotonic() + 30
    while left.exists() and time.monotonic() < end:
        time.sleep(0.3)
    assert not left.exists()
    assert seat(stack, 15)["state"] == "free"
