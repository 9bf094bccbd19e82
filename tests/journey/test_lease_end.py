"""The end of a participant's time as he sees it: warned, told, given more time, and shown a page when it is over."""

from playwright.sync_api import expect

from tests.conftest import docker
from tests.journey.portal import seat, send, wait_for_action
from tests.journey.test_participant import log_in, new_password


def let_the_lease_end_in(stack, number: int, minutes: float) -> None:
    """Time passes: the seat's lease ends in so many minutes."""
    docker(
        *(
            "exec",
            "--user=1804:1808",
            stack.container("db"),
            "psql",
            "-qh",
            "/run/postgresql",
            "-U",
            "wod",
            "wod",
        ),
        *(
            "-c",
            f"UPDATE wod.seat SET lease_until = now() + interval '{minutes} minutes' WHERE number = {number}",  # noqa: S608
        ),
    )


def test_he_is_warned_and_told_and_sees_a_page_when_his_time_is_over(stack, page, artefacts):
    """Warned at fifteen minutes and again at five, told what the operator says, given more time, thanked."""
    send(stack, "CREATE 7 77", "WKSHP-Welcome101")
    assert wait_for_action(stack, 77, "CREATE")["state"] == "done"
    log_in(page, stack, "student7", new_password(stack, 7))
    expect(page.locator(".lm-TabBar-tab.jp-mod-current", has_text="0-ReadMeFirst.ipynb")).to_be_visible()
    alerts = page.locator("#wod-notices").get_by_role("alert")
    expect(alerts).to_have_count(0)

    let_the_lease_end_in(stack, 7, 13.5)
    expect(alerts).to_contain_text("Your time ends in 14 minutes", timeout=30_000)
    stack.wodctl("student", "warn", "5-9", "<b>Lunch</b> is <img src=x onerror=alert(1)> at noon.")
    notice = alerts.filter(has_text="Lunch")
    expect(notice).to_contain_text("<b>Lunch</b> is <img src=x onerror=alert(1)> at noon.", timeout=30_000)
    assert notice.locator("b, img").count() == 0
    page.screenshot(path=artefacts / "lease-warning.png")
    notice.get_by_role("button", name="OK").click()
    expect(notice).to_have_count(0)

    stack.wodctl("student", "extend", "7", "30m")
    expect(alerts).to_have_count(0, timeout=30_000)
    let_the_lease_end_in(stack, 7, 4.5)
    expect(alerts).to_contain_text("Your time ends in 5 minutes", timeout=30_000)

    let_the_lease_end_in(stack, 7, 0.5)
    over = page.get_by_role("alertdialog", name="Your time in this workshop is over")
    expect(over).to_be_visible(timeout=60_000)
    page.screenshot(path=artefacts / "lease-over.png")
    ended = wait_for_action(stack, 77, "CLEANUP")
    assert (ended["source"], ended["state"]) == ("lease", "done")
    assert seat(stack, 7)["state"] == "free"
    page.wait_for_timeout(5000)
    expect(over).to_be_visible()
    over.get_by_role("link").click()
    expect(page.get_by_label("User name")).to_be_visible()
