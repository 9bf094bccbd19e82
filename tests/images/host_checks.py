"""The checks of the host, as `wodctl check` makes them, on a host in a container: what fails, as JSON.

`python -m tests.images.host_checks CONTAINER`. A program of its own, for pytest runs once in a process.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT
from wodctl.adapters import configuration
from wodctl.adapters.compliance import SUITE, findings_of
from wodctl.model.settings import Settings


@dataclass(frozen=True)
class Facts:
    """What these checks have to know: the site's settings."""

    root: Path
    settings: Settings


class Plugin:
    """In place of the facts of a stack, which that host does not have."""

    @pytest.fixture(scope="session")
    def facts(self) -> Facts:
        site = {"WODBEFQDN": "lab.example.net", "WODHOSTPORTS": "8001"}
        return Facts(ROOT, configuration.load(ROOT, Path("/nonexistent"), site, {})[0])


def main(container: str) -> None:
    checks = [ROOT / SUITE / "check_host.py"]
    found = findings_of(ROOT, checks, Plugin(), host=True, attacks=False, connection=f"docker://{container}")
    made = [one.id for one in found]
    failed = {one.id.removeprefix("host/"): one.detail for one in found if one.result == "failed"}
    print(json.dumps({"made": len(made), "failed": failed}))


if __name__ == "__main__":
    main(sys.argv[1])
