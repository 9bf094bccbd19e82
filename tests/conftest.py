"""What the tests share: the checkout, and a stack of their own for those that need one."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Page, expect, sync_playwright
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from wodctl.adapters.builder import Builder
from wodctl.adapters.configuration import load

ROOT = Path(__file__).resolve().parents[1]
ARTEFACTS = ROOT / "artefacts"
STATE = Path("/var/lib/wod-tests")

# Milliseconds: a page of JupyterLab takes its time on a machine that is busy with other tests.
expect.set_options(timeout=60_000)


class ByFile(LoadScopeScheduling):
    """A file stays with one process; so do all journeys, which share one stack, and begin first, being longest."""

    def _split_scope(self, nodeid: str) -> str:
        return "tests/journey" if nodeid.startswith("tests/journey/") else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    """Called where tests run side by side."""
    return ByFile(config, log)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Where tests run side by side, two of them must not make the same images at once on a machine that has none."""
    if session.config.getoption("numprocesses"):
        builder = Builder(ROOT, STATE, load(ROOT, STATE, {}, {})[0])
        builder.build([*builder.images(), "browser"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "journey" not in item.path.parts)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What fails is told with what its stack says of itself, and its page shows: both are gone for whoever reads."""
    report = yield
    pages = [value for value in getattr(item, "funcargs", {}).values() if isinstance(value, Page)]
    if report.failed and pages:
        with contextlib.suppress(Error):
            pages[0].screenshot(path=ARTEFACTS / f"failed-{item.name.replace('/', '-')}.png")
            report.sections.append((f"page {pages[0].url}", pages[0].locator("body").inner_text()[:3000]))
    stacks = [value for value in getattr(item, "funcargs", {}).values() if isinstance(value, Stack)]
    if report.failed and stacks:
        for words in (["status"], ["action", "list"], ["mail", "list"], ["logs", "--tail=12"]):
            said = stacks[0].wodctl(*words, check=False)
            report.sections.append((f"wodctl {' '.join(words)}", (said.stdout + said.stderr)[-5000:]))
    return report


@dataclass(frozen=True)
class Stack:
    """A running stack of the tests: its own project, state directory, ports."""

    state: Path
    project: str
    port: int
    mail_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wodctl(
        self, *words: str, check: bool = True, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run `wodctl` on this stack, as an operator would."""
        done = subprocess.run(
            [sys.executable, "-m", "wodctl", "--state", str(self.state), "--project", self.project, *words],
            cwd=ROOT,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert not check or done.returncode == 0, f"wodctl {' '.join(words)}: {done.stdout}\n{done.stderr}"
        return done

    @property
    def environment(self) -> dict[str, str]:
        return {
            "WODBEPORT": str(self.port),
            "WODPOSTPORT": str(self.mail_port),
            "WODUSERMAX": "60",
            "WODBEFQDN": "127.0.0.1",
        }

    def container(self, service: str) -> str:
        """Name of the container of a service."""
        return f"{self.project}-{service}-1"


def docker(*words: str, check: bool = True, timeout: float = 120) -> str:
    """Run the engine's client and return what it prints."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=timeout, check=False)
    assert not check or done.returncode == 0, (
        f"docker {' '.join(words)}: {done.stdout[-4000:]}\n{done.stderr}"
    )
    return done.stdout


@pytest.fixture(scope="session")
def stack():
    """The whole stack, started by `wodctl up` from an empty state directory and removed with its data at the end."""
    ARTEFACTS.mkdir(exist_ok=True)
    keep = bool(os.environ.get("WOD_TESTS_KEEP"))
    made = Stack(state=STATE, project="wodtests", port=18800, mail_port=20825)
    if not keep:
        if (made.state / "rendered" / "compose.env").exists():
            made.wodctl("down", "--volumes", "--yes")
        shutil.rmtree(made.state, ignore_errors=True)
    started = made.wodctl("up", check=False, timeout=2400)
    (ARTEFACTS / "up.txt").write_text(started.stdout + started.stderr)
    assert started.returncode == 0, started.stdout + started.stderr
    yield made
    logs = made.wodctl("logs", "--tail=all", check=False)
    (ARTEFACTS / "stack.log").write_text(logs.stdout + logs.stderr)
    if not keep:
        made.wodctl("down", "--volumes", "--yes")


@pytest.fixture(scope="session")
def browser():
    """A Chromium without a screen, in a container; one for all tests, as Playwright starts once in a process."""
    builder = Builder(ROOT, STATE, load(ROOT, STATE, {}, {})[0])
    builder.build(["browser"])
    name, port = f"wodtests-browser-{os.getpid()}", free_port()
    docker(
        *("run", "--detach", "--rm", "--network=host", f"--name={name}", "--shm-size=512m"),
        # Chromium ends requests when the host gets or loses an address, and engines' networks come and go: not where
        # it cannot learn of them.
        f"--security-opt=seccomp={ROOT}/images/browser/seccomp.json",
        *(builder.tag("browser"), f"--remote-debugging-port={port}", "about:blank"),
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
    ARTEFACTS.mkdir(exist_ok=True)
    return ARTEFACTS
