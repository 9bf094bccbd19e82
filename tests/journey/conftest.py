"""The browser of the journeys: Chromium in a container, driven from here."""

import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, sync_playwright

from tests.conftest import ROOT, docker
from wodctl.adapters.builder import Builder
from wodctl.adapters.configuration import load

DEBUGGING_PORT = 19222


@pytest.fixture(scope="session")
def browser(stack):
    """A Chromium without a screen."""
    settings, _ = load(ROOT, stack.state, stack.environment, {})
    builder = Builder(ROOT, stack.state, settings)
    builder.build(["browser"])
    name = f"{stack.project}-browser"
    docker("rm", "--force", name, check=False)
    docker(
        *("run", "--detach", "--rm", "--network=host", f"--name={name}", "--shm-size=512m"),
        *(builder.tag("browser"), f"--remote-debugging-port={DEBUGGING_PORT}", "about:blank"),
    )
    try:
        with sync_playwright() as playwright:
            yield _connected(playwright)
    finally:
        docker("rm", "--force", name, check=False)


def _connected(playwright) -> Browser:
    for _ in range(100):
        try:
            return playwright.chromium.connect_over_cdp(f"http://127.0.0.1:{DEBUGGING_PORT}")
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
