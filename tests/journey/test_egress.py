"""Where a workshop says that its participants reach nothing outside, or little: a whole lease with each policy."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.conftest import Stack, docker
from tests.images.test_egress import BY_NAME, name_of_mirror
from tests.journey.test_participant import log_in, new_password, open_notebook, run_first_cell

SEAT = 46


def notebook(*cells: str) -> str:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    empty = {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": []}
    made = [empty | {"id": str(number), "source": source} for number, source in enumerate(cells)]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": made})


@pytest.fixture(scope="module")
def site(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack with a workshop for each policy."""
    folder = tmp_path_factory.mktemp("private")
    for above in (folder, folder.parent, folder.parent.parent):
        above.chmod(0o755)
    mirror = name_of_mirror()
    for name, policy in {
        "Shut": "egress: none",
        "Listed": f"egress: [{mirror}]",
        "Wide": "duration: 2",
    }.items():
        content = folder / "notebooks" / f"WKSHP-{name}"
        content.mkdir(parents=True)
        (content / "wod.yml").write_text(f"{policy}\n")
        (content / "0-ReadMeFirst.ipynb").write_text(notebook())
        (content / "1-Outside.ipynb").write_text(
            notebook(f"import sys\nsys.argv[1:] = [{mirror!r}]\n{BY_NAME}")
        )
    conf = stack.state / "conf" / "production.yml"
    conf.write_text(f"WODPRIVDIR: {folder}\n")
    stack.wodctl("up")
    yield stack
    stack.wodctl("student", "wipe", str(SEAT), "--yes", check=False)
    conf.unlink()
    stack.wodctl("up")


def order(site: Stack, action: str, customer: int, name: str) -> dict[str, Any]:
    words = ["action", "submit", action, str(SEAT), str(customer), "-w", f"WKSHP-{name}", "--json", "--wait"]
    return dict(json.loads(site.wodctl(*words).stdout))


def tries(site: Stack, name: str) -> str:
    """What becomes of an attempt to reach the host of that name from the seat."""
    return docker("exec", f"{site.project}-student{SEAT}", "python3", "-c", BY_NAME, name).strip()


def test_a_workshop_without_a_way_out_is_worked_in_and_the_next_one_has_its_own(
    site: Stack, page: Page, artefacts: Path
) -> None:
    """Login, notebook and kernel as ever, the world refused; also after the service began anew, and no longer than
    the lease: the same seat reaches what the next workshop names, and everything in the one after."""
    mirror = name_of_mirror()
    assert order(site, "CREATE", 4601, "Shut")["state"] == "done"
    log_in(page, site, f"student{SEAT}", new_password(site, SEAT))
    open_notebook(page, "1-Outside.ipynb")
    assert "gaierror" in run_first_cell(page)
    page.screenshot(path=artefacts / "egress-none.png")
    docker("restart", site.container("egress"))
    assert "gaierror" in tries(site, mirror)
    assert order(site, "CLEANUP", 4601, "Shut")["state"] == "done"

    assert order(site, "CREATE", 4602, "Listed")["state"] == "done"
    assert tries(site, mirror) == "reached"
    assert "gaierror" in tries(site, "example.net")
    assert "No route to host" in tries(site, "192.0.2.1")
    assert order(site, "CLEANUP", 4602, "Listed")["state"] == "done"

    assert order(site, "CREATE", 4603, "Wide")["state"] == "done"
    assert tries(site, mirror) == "reached"
    assert order(site, "CLEANUP", 4603, "Wide")["state"] == "done"
