"""The browser of the journeys: Chromium in a container, driven from here."""

import os
import socket
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, sync_playwright

from tests.conftest import ROOT, docker
from wodctl.adapters.builder import Builder
from wodctl.adapters.configuration import load

STATE = Path("/var/lib/wod-tests")


@pytest.fixture(scope="session")
def browser():
    """A Chromium without a screen."""
    builder = Builder(ROOT, STATE, load(ROOT, STATE, {}, {})[0])
    builder.build(["browser"])
    name, port = f"wodtests-browser-{os.getpid()}", free_port()
    docker(
        *("run", "--detach", "--rm", "--network=host", f"--name={name}", "--shm-size=512m"),
        # HTTP/2: Chromium ends all of it whenever an address of this host comes or goes, and here networks do so all the time.
        *(builder.tag("browser"), f"--remote-debugging-port={port}", "--disable-http2", "about:blank"),
    )
    try:
        with sync_playwright() as playwright:
            yield _connected(playwright, port)
    finally:
        docker("rm", "--force", name, check=False)


def free_port() -> int:
    """A port of the loopback address that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as any_socket:
        return int(any_socket.getsockname()[1])


def _connected(playwright, port: int) -> Browser:
    for _ in range(100):
        try:
            return playwright.chromium.connect_over_cdp(f"http://127.0.0.1:{port}")
        except Error:
            time.sleep(0.2)
    raise AssertionError("the browser did not answer")


@pytest.fixture
def page(browser):
    """A fresh page with cookies of its own."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(60_000)
    yield context.new_page()
    context.close()


@pytest.fixture
def artefacts() -> Path:
    """Where pictures are left for people to look at."""
    folder = ROOT / "artefacts"
    folder.mkdir(exist_ok=True)
    return folder
