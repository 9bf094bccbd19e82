"""A participant's hours: from the portal's bytes to the work in the browser, to the old password that opens nothing."""

import re

from playwright.sync_api import Page, expect

from tests.conftest import docker
from tests.journey.portal import actions, seat, send, send_as_the_original, wait_for_action


def new_password(stack, number: int) -> str:
    return re.search(r"(\S+)\s*$", stack.wodctl("student", "password", str(number)).stdout)[1]


def log_in(page: Page, stack, user: str, password: str) -> None:
    page.goto(stack.url)
    log_in_here(page, user, password)


def log_in_here(page: Page, user: str, password: str) -> None:
    """Fill in the login form that the page shows."""
    page.get_by_label("User name").fill(user)
    page.locator("#password_input").fill(password)
    page.get_by_role("button", name="Log in").click()


def open_notebook(page: Page, name: str) -> None:
    """Open a notebook from the file browser, as a participant does."""
    page.locator(".jp-DirListing-item", has_text=name).dblclick()
    expect(page.locator(".lm-TabBar-tab.jp-mod-current", has_text=name)).to_be_visible()


def wait_for_kernel(page: Page) -> None:
    """The status bar says that the kernel of the notebook in front is there and has nothing to do."""
    expect(page.locator("#jp-bottom-panel")).to_contain_text("| Idle", timeout=60_000)


def run_first_cell(page: Page) -> str:
    """Run the first code cell of the notebook in front and return what it printed."""
    panel = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
    cell = panel.locator(".jp-CodeCell").first
    wait_for_kernel(page)
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    output = cell.locator(".jp-OutputArea-output").first
    expect(output).to_be_visible(timeout=60_000)
    return output.inner_text()


def test_from_a_mail_to_a_participant_at_work_and_back(stack, page, artefacts):
    """The portal's mail makes the seat; he logs in, lands on the ReadMe, works, logs out; CLEANUP ends it."""
    page.goto(stack.url)
    page.screenshot(path=artefacts / "login.png")

    send_as_the_original(stack, "CREATE 3 17 jane@example.net", "WKSHP-Welcome101")
    created = wait_for_action(stack, 17, "CREATE")
    assert created["state"] == "done", created
    assert seat(stack, 3)["server"] == "ready"

    password = new_password(stack, 3)
    log_in(page, stack, "student3", password)
    expect(page).to_have_url(re.compile(rf"{re.escape(stack.url)}/user/student3/lab"))
    expect(page.locator(".lm-TabBar-tab.jp-mod-current", has_text="0-ReadMeFirst.ipynb")).to_be_visible()
    expect(page.locator(".jp-DirListing-item", has_text="1-WKSHP-Python.ipynb")).to_be_visible()
    expect(page.locator(".jp-NotebookPanel .jp-RenderedMarkdown img").first).to_be_visible()
    page.wait_for_timeout(1500)
    page.screenshot(path=artefacts / "readme.png")

    open_notebook(page, "1-WKSHP-Python.ipynb")
    assert "I am student 3" in run_first_cell(page)
    open_notebook(page, "2-WKSHP-Bash.ipynb")
    assert "student3" in run_first_cell(page)
    page.screenshot(path=artefacts / "participant.png")

    page.keyboard.press("Control+s")
    page.goto(f"{stack.url}/hub/logout")
    expect(page).to_have_url(re.compile("/hub/(login|logout)"))
    page.wait_for_timeout(500)
    page.screenshot(path=artefacts / "logged-out.png")
    for _ in range(50):
        if not docker("ps", "--quiet", "--filter", f"name={stack.project}-student3$").strip():
            break
        page.wait_for_timeout(200)
    else:
        raise AssertionError("logging out did not stop the server")

    log_in(page, stack, "student3", password)
    expect(page).to_have_url(re.compile(rf"{re.escape(stack.url)}/user/student3/lab"), timeout=60_000)
    send_as_the_original(stack, "CLEANUP 3 17", "WKSHP-Welcome101")
    assert wait_for_action(stack, 17, "CLEANUP")["state"] == "done"
    assert seat(stack, 3)["state"] == "free"
    assert not (stack.state / "data/students/student3").exists()

    page.goto(f"{stack.url}/hub/home")
    expect(page).to_have_url(re.compile("/hub/login"))
    log_in(page, stack, "student3", password)
    expect(page.get_by_role("alert")).to_contain_text("do not open a seat")
    page.screenshot(path=artefacts / "refused.png")
    page.set_viewport_size({"width": 390, "height": 844})
    page.screenshot(path=artefacts / "refused-phone.png")


def test_a_restarted_hub_leaves_the_kernel_connected(stack, page):
    """While the hub is restarted, a cell that runs goes on printing into the participant's notebook."""
    send(stack, "CREATE 5 27", "WKSHP-Welcome101")
    assert wait_for_action(stack, 27, "CREATE")["state"] == "done"
    log_in(page, stack, "student5", new_password(stack, 5))
    expect(page.locator(".lm-TabBar-tab.jp-mod-current", has_text="0-ReadMeFirst.ipynb")).to_be_visible()
    open_notebook(page, "1-WKSHP-Python.ipynb")
    cell = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell").first
    wait_for_kernel(page)
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(
        "import time\nfor i in range(25):\n    print('tick', i, flush=True)\n    time.sleep(1)"
    )
    page.keyboard.press("Control+Enter")
    expect(cell.locator(".jp-OutputArea-output").first).to_contain_text("tick 1", timeout=60_000)
    closed = []
    page.on("websocket", lambda socket: closed.append(socket.url))
    docker("restart", stack.container("hub"))
    expect(cell.locator(".jp-OutputArea-output").first).to_contain_text("tick 24", timeout=60_000)
    assert [url for url in closed if "/channels" in url] == [], (
        "the kernel's websocket had to be opened again"
    )
    stack.wodctl("action", "submit", "CLEANUP", "5", "27", "-w", "WKSHP-Welcome101", "--wait")


def test_a_page_of_anothers_seat_never_runs_in_his_browser(stack, browser, page, artefacts):
    """student14 opens a page that student15 serves from his seat: he gets the login, and no word of the page."""
    for number in (14, 15):
        send(stack, f"CREATE {number} {100 + number}", "WKSHP-Welcome101")
        assert wait_for_action(stack, 100 + number, "CREATE")["state"] == "done"
    trap = "/student/student15/trap.html"
    docker(
        *("exec", f"{stack.project}-student15", "sh", "-c"),
        f"echo '<h1>trap</h1><script>document.title = \"sprung\"</script>' >{trap}",
    )
    address = f"{stack.url}/user/student15/files/trap.html"
    other = browser.new_context()
    try:
        attacker = other.new_page()
        log_in(attacker, stack, "student15", new_password(stack, 15))
        expect(attacker).to_have_url(re.compile("/user/student15/lab"))
        attacker.goto(address)
        expect(attacker.get_by_role("heading")).to_have_text("trap")
    finally:
        other.close()

    log_in(page, stack, "student14", new_password(stack, 14))
    expect(page).to_have_url(re.compile("/user/student14/lab"))
    expect(page.locator(".lm-TabBar-tab.jp-mod-current", has_text="0-ReadMeFirst.ipynb")).to_be_visible()
    asked = page.evaluate("address => fetch(address).then(answer => answer.status)", address)
    assert asked == 403
    page.goto(address)
    expect(page).to_have_url(re.compile("/hub/login"))
    expect(page.get_by_label("User name")).to_be_visible()
    assert page.title() != "sprung"
    page.screenshot(path=artefacts / "anothers-seat.png")

    page.goto(f"{stack.url}/user/student14/lab")
    open_notebook(page, "1-WKSHP-Python.ipynb")
    assert "I am student 14" in run_first_cell(page)
    page.goto(address)
    log_in_here(page, "student15", new_password(stack, 15))
    expect(page.get_by_role("heading")).to_have_text("trap")
    page.goto(f"{stack.url}/user/student14/lab")
    expect(page).to_have_url(re.compile("/hub/login"))
    for number in (14, 15):
        stack.wodctl(
            "action", "submit", "CLEANUP", str(number), str(100 + number), "-w", "WKSHP-Welcome101", "--wait"
        )


def test_what_cannot_be_carried_out_is_filed_with_its_reason(stack):
    """Hostile and broken mails reach no shell and no seat; the operator reads why."""
    attempts = {
        "PURGE 1+a[$(touch${IFS}/tmp/owned)] 0": "WKSHP-Welcome101",
        "CREATE 0 7": "WKSHP-Welcome101",
        "CREATE 6 71": "../../etc",
        "CREATE 6 72": "WKSHP-Nothing101",
        "CREATE 9999 73": "WKSHP-Welcome101",
        "EXPLODE 6 74": "WKSHP-Welcome101",
    }
    before = {a["id"] for a in actions(stack, "--rejected")}
    for subject, content in attempts.items():
        send(stack, subject, content)
    send(stack, "CREATE 6 75", "WKSHP-Welcome101", sender="stranger@example.net")
    for _ in range(100):
        filed = [a for a in actions(stack, "--rejected") if a["id"] not in before]
        if len(filed) == len(attempts) + 1:
            break
    assert len(filed) == len(attempts) + 1, filed
    assert all(a["reason"] for a in filed)
    assert any("stranger@example.net" in a["reason"] for a in filed)
    assert seat(stack, 6)["state"] == "free"
    assert "No such file" in docker(
        "exec", stack.container("mail"), "sh", "-c", "ls /tmp/owned 2>&1", check=False
    )
