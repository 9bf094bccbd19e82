"""The way over HTTPS: `up --tls files` on a running stack, a participant at work while the certificate is renewed."""

import http.client
import re
import ssl
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.journey.portal import seat, send, wait_for_action
from tests.journey.test_participant import log_in_here, new_password, open_notebook, wait_for_kernel

REDIRECTING = 18801


def new_certificate(folder: Path) -> None:
    """As an operator would have one made who is his own authority."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9",
         "-subj", "/CN=tests", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip


@pytest.fixture
def secure(stack, tmp_path, monkeypatch):
    """The stack with TLS; without it again at the end."""
    monkeypatch.setenv("WODHTTPPORT", str(REDIRECTING))
    new_certificate(tmp_path)
    given = ["--certificate", str(tmp_path / "cert.pem"), "--key", str(tmp_path / "key.pem")]
    said = stack.wodctl("up", "--tls", "files", *given).stdout
    assert re.search(rf"log in at +https://127\.0\.0\.1:{stack.port}\n", said), said
    yield stack
    said = stack.wodctl("up", "--tls", "off").stdout
    assert "TLS                      off: passwords and work can be read on the way" in said


def test_a_participant_works_over_https_while_the_certificate_is_renewed(secure, browser: Browser, tmp_path):
    """He is led over from HTTP, every cookie of his keeps to HTTPS, and his kernel stays connected."""
    stack, url = secure, f"https://127.0.0.1:{secure.port}"
    send(stack, "CREATE 14 1414", "WKSHP-Welcome101")
    assert wait_for_action(stack, 1414, "CREATE")["state"] == "done"
    assert seat(stack, 14)["url"].startswith(f"{url}/user/student14/")

    context = browser.new_context(ignore_https_errors=True, viewport={"width": 1280, "height": 800})
    page = context.new_page()
    try:
        page.goto(f"http://127.0.0.1:{REDIRECTING}/")
        expect(page).to_have_url(re.compile(re.escape(f"{url}/hub/login")))
        log_in_here(page, "student14", new_password(stack, 14))
        expect(page).to_have_url(re.compile(re.escape(f"{url}/user/student14/lab")), timeout=60_000)
        open_notebook(page, "1-WKSHP-Python.ipynb")
        cell = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell").first
        wait_for_kernel(page)
        cookies = {cookie["name"]: cookie["secure"] for cookie in context.cookies()}
        assert {"wod-seat", "jupyterhub-session-id", "jupyterhub-user-student14", "_xsrf"} <= set(cookies)
        assert all(cookies.values()), cookies

        cell.locator(".cm-content").click()
        page.keyboard.press("Control+a")
        page.keyboard.insert_text(
            "import time\nfor i in range(20):\n    print('tick', i, flush=True)\n    time.sleep(1)"
        )
        page.keyboard.press("Control+Enter")
        output = cell.locator(".jp-OutputArea-output").first
        expect(output).to_contain_text("tick 1", timeout=60_000)
        opened = []
        page.on("websocket", lambda socket: opened.append(socket.url))
        former = ssl.get_server_certificate(("127.0.0.1", stack.port))
        new_certificate(tmp_path)
        stack.wodctl("up")
        assert ssl.get_server_certificate(("127.0.0.1", stack.port)) != former
        expect(output).to_contain_text("tick 19", timeout=60_000)
        assert not opened
        page.screenshot(path="artefacts/https.png")
    finally:
        context.close()

    plain = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=60)
    plain.request("GET", "/hub/login")
    assert plain.getresponse().status in (400, 404)
    stack.wodctl("student", "wipe", "14", "--yes")
