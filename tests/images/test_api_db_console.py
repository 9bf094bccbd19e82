"""The operators' console in a browser: who is there, live; ended by a click; closed to everybody else."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.images.registration_site import RegistrationSite, registration_site


@pytest.fixture(scope="module")
def site() -> Iterator[RegistrationSite]:
    with registration_site("wodtestconsole", Path("/var/lib/wod-test-console"), WODSMTPHOST="") as made:
        made.start_scheduler()
        yield made


@pytest.fixture
def console(site: RegistrationSite, page: Page) -> Page:
    """An operator who has logged in."""
    site.register("ada@example.net", name="<script>alert(1)</script>")
    page.goto(f"{site.root}/console")
    page.locator("#username").fill("hackshack")
    page.locator("#password").fill((site.state / "secrets/api-db/admin-password").read_text())
    page.locator("#login").click()
    expect(page.locator("#registrations tbody tr")).to_have_count(1)
    return page


def test_an_operator_sees_what_happens_as_it_happens(
    site: RegistrationSite,
    console: Page,
    artefacts: Path,
) -> None:
    """A registration appears without a reload, letters can be read, a click ends a registration."""
    said: list[str] = []
    console.on("console", lambda message: said.append(message.text))
    expect(console.locator("#registrations")).to_contain_text("<script>alert(1)</script>")
    site.register("bob@example.net", name="Bob")
    expect(console.locator("#registrations tbody tr").first).to_contain_text(
        "bob@example.net", timeout=10_000
    )
    expect(console.locator("#mails")).to_contain_text("CREATE 2 2", timeout=10_000)
    console.screenshot(path=artefacts / "console.png", full_page=True)
    console.get_by_role("button", name="End registration 2").click()
    expect(console.locator("#ended")).to_contain_text("bob@example.net", timeout=15_000)
    console.locator("#mails tr", has_text="ada@example.net").last.locator("a").click()
    expect(console.locator("#text")).to_contain_text("You are registered for")
    assert said == []


def test_the_console_is_for_admins_who_log_in(site: RegistrationSite, page: Page) -> None:
    """Without a login, with a moderator's, and from another site's page, there is nothing to see or to do."""
    site.ask("add-user", username="mo", password="long enough for us", roles=["moderator"])
    page.goto(f"{site.root}/console")
    page.locator("#username").fill("mo")
    page.locator("#password").fill("long enough for us")
    page.locator("#login").click()
    expect(page.locator(".notice.bad")).to_contain_text("not those of an admin")
    assert site.call("GET", "/console/live").status == 401
    token = site.login("admin").body["accessToken"]
    assert site.call("GET", "/console/live", cookie=f"wod-console={token}").status == 401
    form = {"content_type": "application/x-www-form-urlencoded", "origin": "http://evil.example.net"}
    assert site.call("POST", "/console/cancel/1", b"", **form).status == 403
    headers = site.call("GET", "/console/login").headers
    assert "script-src 'self'" in headers["content-security-policy"]
