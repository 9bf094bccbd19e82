"""A whole service on one host: somebody registers, works with what his mail says, and leaves a free seat."""

import dataclasses
import email
import email.policy
import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.conftest import Stack

PORT = 18821
PATIENCE = 180.0
"""Seconds; far more than anything takes, on a machine that is busy with other tests."""


@dataclasses.dataclass(frozen=True)
class Service(Stack):
    """The tests' stack with a registration API of its own, where an hour of a session lasts a minute."""

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {
            "WODTYPE": "all", "WODAPIDBPORT": str(PORT), "WODAPIDBHOUR": "60", "WODAPIDBRATE": "0",
        }  # fmt: skip

    def documents(self, *words: str) -> Any:
        """What a command prints as JSON."""
        return json.loads(self.wodctl(*words, "--json").stdout)


@pytest.fixture(scope="module")
def service(stack: Stack) -> Iterator[Service]:
    """The stack, made a whole service for these tests and a mere backend again afterwards."""
    made = Service(stack.state, stack.project, stack.port, stack.mail_port)
    # A seat that another test has lent, behind the back of the registration, would be refused.
    made.wodctl("student", "wipe", "1-20", "--yes")
    # What is known of a portal elsewhere has nothing to do with the one on this host.
    elsewhere = stack.state / "secrets/worker/api-password"
    elsewhere.write_text("the portal's\n")
    made.wodctl("up", timeout=900)
    # The sample lasts one hour, and has no "one hour left"; the catalogue is ours to change.
    call("PUT", f"/api/workshop/{welcome()['id']}", {"duration": "2"}, token=admin(made))
    yield made
    assert elsewhere.read_text() == "the portal's\n"
    stack.wodctl("up", "-t", "backend", timeout=900)


def call(method: str, path: str, body: Any = None, token: str = "") -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | ({"x-access-token": token} if token else {})
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", data, headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.loads(answer.read() or b"null")


def welcome() -> Any:
    """The sample as the API knows it."""
    return next(one for one in call("GET", "/api/workshops") if one["name"] == "Welcome 101")


def admin(service: Service) -> str:
    password = (service.state / "secrets/api-db/admin-password").read_text()
    return str(call("POST", "/api/login", {"username": "hackshack", "password": password})["accessToken"])


def wait_for(happens: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while not (found := happens()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.5)
    return found


def letter(service: Service, customer: int, name: str) -> str:
    """The text of a mail that this participant was sent, once it is there; empty until then."""
    found = [
        one
        for one in service.documents("mail", "list", "--customer", str(customer))
        if one["event"].endswith(name)
    ]
    if not found or found[0]["state"] != "kept":
        return ""
    kept = email.message_from_string(
        service.documents("mail", "show", str(found[0]["id"]))["content"], policy=email.policy.default
    )
    part = kept.get_body(("plain",))
    return str(part.get_content()) if part else ""


def test_from_the_registration_to_the_free_seat(service: Service, page: Page, artefacts: Path) -> None:
    """Registration, welcome, CREATE, credentials, login in a browser, one hour left, end, CLEANUP, seat free."""
    before = welcome()["capacity"]
    said = {
        "name": "ada lovelace",
        "email": "ada@example.net",
        "title": "Welcome 101",
        "termsAndConditions": True,
    }
    customer = call("POST", "/api/customer", said)
    assert "Welcome, Ada Lovelace!" in wait_for(lambda: letter(service, customer["id"], "-welcome"))

    text = wait_for(lambda: letter(service, customer["id"], "-credentials"))
    user, password = re.search(r"User name: (\S+)\s+Password:\s+(\S+)", text).groups()  # type: ignore[union-attr]
    page.goto(re.search(r"Workshop:\s+(\S+)", text)[1])  # type: ignore[index]
    page.locator("#username_input").fill(user)
    page.locator("#password_input").fill(password)
    page.locator("#login_submit").click()
    expect(page.locator(".jp-NotebookPanel")).to_contain_text("Welcome", timeout=60_000)
    page.screenshot(path=artefacts / "registered-participant.png")
    seat = int(user.removeprefix("student"))
    assert service.documents("student", "show", str(seat))["customer"] == customer["id"]

    assert "ends in one hour" in wait_for(lambda: letter(service, customer["id"], "-expiring"))
    assert "Congratulations" in wait_for(lambda: letter(service, customer["id"], "-expired"))
    wait_for(lambda: service.documents("student", "show", str(seat))["state"] == "free")
    row = call("GET", f"/api/students/{customer['studentId']}", token=admin(service))
    wait_for(
        lambda: not call("GET", f"/api/students/{customer['studentId']}", token=admin(service))["assigned"]
    )
    ended = call("GET", f"/api/customers/{customer['id']}", token=admin(service))
    assert (ended["lastEmailSent"], ended["active"], ended["cleaned"]) == ("expired", False, True)
    assert welcome()["capacity"] == before
    assert row["password"] is None
    assert letter(service, customer["id"], "-credentials") == ""  # the kept password goes with the session


def look_at_console(service: Service, page: Page, artefacts: Path, seat: str) -> None:
    """The operators' page shows the backend on this host as it is: who has a seat, and what was ordered."""
    page.goto(f"http://127.0.0.1:{PORT}/console")
    page.locator("#username").fill("hackshack")
    page.locator("#password").fill((service.state / "secrets/api-db/admin-password").read_text())
    page.locator("#login").click()
    expect(page.locator("#leases tr", has_text=seat)).to_contain_text("ready")
    expect(page.locator("#jobs tr", has_text="CREATE").first).to_contain_text("done")
    expect(page.locator("#registrations")).to_contain_text("bob@example.net")
    expect(page.locator("#workshops")).to_contain_text("Welcome 101")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.screenshot(path=artefacts / f"console-of-a-backend-{scheme}.png", full_page=True)


def test_an_operator_registers_and_cancels_by_hand(service: Service, page: Page, artefacts: Path) -> None:
    """`registration add`, `list` and `cancel`, seen on the console; the seat comes back."""
    made = service.documents("registration", "add", "WKSHP-Welcome101", "bob@example.net", "--name", "Bob")
    assert [one["email"] for one in service.documents("registration", "list")] == ["bob@example.net"]
    wait_for(lambda: service.documents("registration", "list")[0]["state"] == "credentials")
    look_at_console(service, page, artefacts, made["seat"])
    service.wodctl("registration", "cancel", str(made["id"]))
    seat = made["seat"].removeprefix("student")
    wait_for(lambda: service.documents("student", "show", seat)["state"] == "free")
    assert service.documents("registration", "list") == []
    assert service.wodctl("user", "add", "portal", "--role", "moderator").stdout.strip()
