"""The operators' console in a browser: who is there, live; ended by a click; closed to everybody else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.images.registration_site import RegistrationSite, registration_site


@pytest.fixture(scope="module")
def site() -> Iterator[RegistrationSite]:
    with registration_site("wodtestconsole", Path("/var/lib/wod-test-console"),
                           WODSMTPHOST="", BRANDINGCOLOR="#5b2c83") as made:  # fmt: skip
        made.start_scheduler()
        yield made


@pytest.fixture
def console(site: RegistrationSite, page: Page) -> Page:
    """An operator who has logged in, and one participant."""
    site.fresh()
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
    expect(console.locator("#registrations tbody tr").first).to_contain_text("bob@example.net")
    expect(console.locator("#mails")).to_contain_text("CREATE 2 2")
    console.screenshot(path=artefacts / "console.png", full_page=True)
    console.get_by_role("button", name="End registration 2").click()
    expect(console.locator("#ended")).to_contain_text("bob@example.net")
    console.locator("#mails tr", has_text="ada@example.net").last.locator("a").click()
    expect(console.locator("#text")).to_contain_text("You are registered for")
    assert said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_is_in_the_site_s_colour_and_fits_its_screen(
    site: RegistrationSite, console: Page, artefacts: Path, scheme: Any, width: int
) -> None:
    """By day and by night, on a desktop and on a phone; nothing is refused by the pages' own policy."""
    said: list[str] = []
    console.on("console", lambda message: said.append(message.text))
    console.emulate_media(color_scheme=scheme)
    console.set_viewport_size({"width": width, "height": 844})
    console.locator("#mails tbody tr", has_text="ada@example.net").last.locator("a").wait_for()
    letter = (
        console.locator("#mails tbody tr", has_text="ada@example.net").last.locator("a").get_attribute("href")
    )
    for name, path in (
        ("console", "/console"),
        ("mail", letter),
        ("docs", "/api/docs"),
        ("login", "/console/login"),
    ):
        console.goto(site.root + str(path))
        console.screenshot(path=artefacts / f"{name}-{width}-{scheme}.png", full_page=True)
        shown = console.locator("header").evaluate("one => getComputedStyle(one).borderTopColor")
        assert (shown == "rgb(91, 44, 131)") is (scheme == "light"), shown
        assert console.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
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
