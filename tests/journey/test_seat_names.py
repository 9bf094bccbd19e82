"""Each seat under a host name of its own: the way there, and that one seat's pages reach nothing of another's."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.journey.portal import seat, send, wait_for_action
from tests.journey.test_participant import log_in_here, new_password

DOMAIN = "seats.localhost"
"""Browsers look for whatever is below `localhost` on their own host."""

# What a page of one seat could try to have of another's.
TRIES = """async url => {
    const found = {};
    for (const mode of ["cors", "no-cors"])
        try {
            const answer = await fetch(url + "api/contents", {mode, credentials: "include"});
            found[mode] = answer.type === "opaque" ? "opaque" : answer.status + " " + await answer.text();
        } catch (problem) { found[mode] = "refused"; }
    const frame = document.createElement("iframe");
    frame.src = url + "lab";
    document.body.append(frame);
    await new Promise(done => setTimeout(done, 3000));
    try { found.frame = frame.contentDocument ? frame.contentDocument.title : "closed"; }
    catch (problem) { found.frame = "closed"; }
    return found;
}"""


@pytest.fixture
def named(stack, monkeypatch):
    """The stack with names for seats; without them again at the end."""
    monkeypatch.setenv("WODSEATDOMAIN", DOMAIN)
    stack.wodctl("up")
    yield stack
    monkeypatch.delenv("WODSEATDOMAIN")
    stack.wodctl("up")


def test_a_seat_is_an_origin_of_its_own(named, page: Page, artefacts) -> None:
    """Whoever logs in under the backend's name is led to his seat's, where alone his cookies are; a page of his
    neighbour's seat, which he has open as well, gets nothing of his."""
    stack = named
    for number, customer in ((21, 2121), (22, 2222)):
        send(stack, f"CREATE {number} {customer}", "WKSHP-Welcome101")
        assert wait_for_action(stack, customer, "CREATE")["state"] == "done"
    mine, his = (f"http://student{n}.{DOMAIN}:{stack.port}" for n in (21, 22))
    assert seat(stack, 21)["url"].startswith(f"{mine}/user/student21/lab")

    for number, origin in ((22, his), (21, mine)):
        # Also by an address of old.
        page.goto(f"{stack.url}/user/student{number}/lab?reset" if number == 22 else stack.url)
        log_in_here(page, f"student{number}", new_password(stack, number))
        expect(page).to_have_url(re.compile(re.escape(f"{origin}/user/student{number}/lab")), timeout=60_000)
        expect(page.locator(".jp-DirListing-item").first).to_be_visible(timeout=60_000)
    page.screenshot(path=artefacts / "seat-name.png")
    passes = {cookie["domain"] for cookie in page.context.cookies() if cookie["name"] == "wod-seat"}
    assert passes == {f"student21.{DOMAIN}", f"student22.{DOMAIN}"}
    assert not [cookie for cookie in page.context.cookies() if cookie["domain"] == "127.0.0.1"
                and cookie["name"] != "_xsrf"]  # fmt: skip

    # He is logged in at both: the browser would send his cookies, and still shows one nothing of the other.
    assert page.goto(f"{his}/user/student22/lab").status == 200
    page.goto(f"{mine}/user/student21/lab")
    found = page.evaluate(TRIES, f"{his}/user/student22/")
    assert found["cors"] == "refused" and found["no-cors"] in ("opaque", "refused")
    assert found["frame"] == "closed"
    # Nor is a seat to be had under the name of another.
    page.goto(f"{mine}/user/student22/lab")
    expect(page).to_have_url(re.compile(re.escape(f"{his}/user/student22/lab")))
    # A word that was used is none any more, whoever has it.
    used = page.context.new_page()
    seen: list[str] = []
    used.on(
        "request", lambda request: seen.append(request.url) if "login?login_key=" in request.url else None
    )
    used.context.clear_cookies()
    used.goto(stack.url)
    log_in_here(used, "student21", new_password(stack, 21))
    expect(used).to_have_url(re.compile(re.escape(f"{mine}/user/student21/lab")), timeout=60_000)
    used.context.clear_cookies()
    used.goto(seen[0])
    expect(used.get_by_label("User name")).to_be_visible()
    stack.wodctl("student", "wipe", "21-22", "--yes")
