"""User quotas in force: a kernel that has them, ext4 and XFS made as the operators' page says, users who try."""

import json
import platform
from typing import Any

import pytest

from tests.conftest import ROOT, STATE, docker
from wodctl.adapters.builder import Builder
from wodctl.adapters.configuration import load

SIZE, FILES = 2**21, 50
QUOTA = "Disk quota exceeded"
OFF = "user quotas are not switched on for its file system"
NONE = "its file system, or this kernel, has no quotas"


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What was seen in that Linux, by name."""
    assert platform.machine() == "x86_64", "the image `kernel` has a kernel for amd64 only"
    builder = Builder(ROOT, STATE, load(ROOT, STATE, {}, {})[0])
    builder.build(["kernel"])
    files = {
        "init": ROOT / "tests/images/quota_guest.py",
        "quota.py": ROOT / "wodctl/adapters/quota.py",
    }
    console = docker(
        *(
            "run",
            "--rm",
            "--network=none",
            "--cap-drop=ALL",
            "--read-only",
            "--tmpfs=/tmp:mode=1777,size=400m",
        ),
        *(f"--volume={path}:/guest/{name}:ro" for name, path in files.items()),
        builder.tag("kernel"),
        timeout=600,
    )
    found = dict(json.loads(line.split("wod:", 1)[1]) for line in console.splitlines() if "wod:" in line)
    assert found.get("ended") is True, console[-4000:]
    return found


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_the_kernel_keeps_each_seat_to_its_share(told: dict[str, Any], kind: str) -> None:
    """Bytes and files; nobody else's share is touched by one who has used up his, and no file can be given away."""
    assert told[f"{kind} refusal"] == ""
    assert told[f"{kind} limits"] == [[SIZE, FILES]] * 2
    written, stopped = told[f"{kind} first writes"]
    assert stopped == QUOTA
    assert SIZE - 2**16 <= written <= SIZE
    assert told[f"{kind} first gives away"] == "Operation not permitted"
    assert told[f"{kind} second writes"] == [SIZE // 2, None]
    made, stopped = told[f"{kind} third makes files"]
    # His home itself is one.
    assert (made, stopped) == (FILES - 1, QUOTA)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_other_users_are_not_limited_and_limits_can_be_changed(told: dict[str, Any], kind: str) -> None:
    """Also back to none."""
    assert told[f"{kind} stranger writes"] == [4 * SIZE, None]
    written, stopped = told[f"{kind} more is allowed"]
    assert stopped == QUOTA
    assert 2 * SIZE - 2**16 <= written <= 2 * SIZE
    assert told[f"{kind} all is allowed"] == [8 * SIZE, None]


def test_where_there_are_no_quotas_the_reason_is_told(told: dict[str, Any]) -> None:
    """So that `up` can say why the watchdog has to do it."""
    assert told["ext4 without quotas"] == OFF
    assert told["xfs without quotas"] in (OFF, NONE)
    assert told["tmpfs refusal"] == NONE
