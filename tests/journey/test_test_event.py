"""A test event: one password for everybody, as long as it lasts and no longer."""

import json

from playwright.sync_api import Page, expect

from tests.conftest import Stack
from tests.journey.portal import send, wait_for_action
from tests.journey.test_participant import log_in, log_in_here

PASSWORD = "Everybody-tries-it-today"  # noqa: S105 - of the test
SEATS = (47, 48)


def made_ready(stack: Stack, customer: int) -> None:
    for number in SEATS:
        send(stack, f"CREATE {number} {customer + number}", "WKSHP-Welcome101")
    for number in SEATS:
        assert wait_for_action(stack, customer + number, "CREATE")["state"] == "done"


def test_one_password_opens_every_seat_of_the_event_and_none_after_it(stack: Stack, page: Page) -> None:
    """Told in red by `up` and `status`, found by `check`; leases that begin after its end have their own again."""
    secret = stack.state / "secrets/worker/fixed-password"
    secret.write_text(f"{PASSWORD}\n")
    try:
        assert "One password opens every seat" in stack.wodctl("up").stderr
        assert "One password opens every seat" in stack.wodctl("status").stdout
        found = json.loads(stack.wodctl("check", "--no-attacks", "--json", check=False).stdout)["checks"]
        failed = [one["id"] for one in found if one["result"] == "failed"]
        assert "state/one-password-opens-one-seat" in failed
        made_ready(stack, 4700)
        for number in SEATS:
            page.context.clear_cookies()
            log_in(page, stack, f"student{number}", PASSWORD)
            expect(
                page.locator(".lm-TabBar-tab.jp-mod-current", has_text="0-ReadMeFirst.ipynb")
            ).to_be_visible()
    finally:
        secret.write_text("")
        stack.wodctl("up")
        stack.wodctl("student", "wipe", f"{SEATS[0]}-{SEATS[-1]}", "--yes")
    made_ready(stack, 4800)
    page.context.clear_cookies()
    page.goto(stack.url)
    log_in_here(page, f"student{SEATS[0]}", PASSWORD)
    expect(page.get_by_role("alert")).to_be_visible()
    stack.wodctl("student", "wipe", f"{SEATS[0]}-{SEATS[-1]}", "--yes")
