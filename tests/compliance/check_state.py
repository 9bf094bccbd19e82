"""The state directory: folders, secrets, rendered settings, homes."""

import json
import os
import re
import stat
from pathlib import Path

from tests.compliance.facts import Facts
from wodctl.adapters import homes, passwords, trash
from wodctl.adapters.appliances import APPLIANCES_ELSEWHERE
from wodctl.adapters.machines import MACHINES_OPENED
from wodctl.adapters.state import FOLDERS, GATE, WORKER, StateDirectory
from wodctl.model import docker_host
from wodctl.model.seat import user_name

SERVANTS = {homes.STAGING, trash.NAME, passwords.FOLDER, APPLIANCES_ELSEWHERE, MACHINES_OPENED}
"""The worker's own folders beside the homes."""


def described(path: Path) -> tuple[int, int, int]:
    """Owner, group and mode of what is there itself, not of what it may lead to."""
    found = path.lstat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


def test_folders_have_their_owners_and_modes(facts: Facts) -> None:
    """Each folder belongs to whom it is for, and is open to nobody else."""
    mode = described(facts.state)[2]
    wrong = [] if mode == 0o711 else [f"{facts.state} is {mode:04o}, expected 0711"]
    for owned in FOLDERS:
        path = facts.state / owned.path
        if not path.is_dir():
            wrong.append(f"{owned.path} is not there")
            continue
        uid, gid, mode = described(path)
        if mode != owned.mode or owned.uid not in (-1, uid) or owned.gid not in (-1, gid):
            wrong.append(
                f"{owned.path} is {uid}:{gid} {mode:04o}, expected {owned.uid}:{owned.gid} {owned.mode:04o}"
            )
    assert not wrong, "; ".join(wrong)


def test_secrets_are_their_readers_alone(facts: Facts) -> None:
    """No secret can be read by anybody but the service, or the operator, whose it is."""
    wrong = []
    for folder, _, names in os.walk(facts.state / "secrets"):
        for name in names:
            path = Path(folder, name)
            uid, gid, mode = described(path)
            # What opens other Docker hosts is the operator's, and for the gates to read.
            shared = 0o040 if gid == GATE and Path(folder).parent == facts.state / docker_host.FOLDER else 0
            if mode & 0o077 & ~shared or not stat.S_ISREG(path.lstat().st_mode):
                wrong.append(f"{path.relative_to(facts.state)} is {uid} {mode:04o}")
    assert not wrong, f"{'; '.join(wrong)}; expected 0400 or 0600"


def test_rendered_settings_are_those_of_the_site(facts: Facts) -> None:
    """Services read exactly what the site's settings say."""
    wrong = []
    for name, text in StateDirectory(facts.state, facts.root).rendered(facts.settings).items():
        path = facts.state / "rendered" / name
        # check_mail.py looks at Postfix's.
        if name.startswith("postfix/") or (path.exists() and path.read_text() == text):
            continue
        keys = _differing(path.read_text(), text) if path.exists() and name.endswith(".json") else []
        wrong.append(f"{name} ({', '.join(keys)})" if keys else name)
    assert not wrong, f"{'; '.join(wrong)} differ (`wodctl up` renders them anew)"


def _differing(seen: str, expected: str) -> list[str]:
    """The settings whose values differ; their values may be nobody's business."""
    try:
        one, other = json.loads(seen), json.loads(expected)
        return sorted(key for key in {*one, *other} if one.get(key) != other.get(key))
    except (ValueError, AttributeError, TypeError):
        return []


def test_homes_are_their_participants_alone(facts: Facts) -> None:
    """No participant can enter another's home, nor find out what is in it."""
    s, students = facts.settings, facts.state / "data" / "students"
    wrong = []
    for path in sorted(students.iterdir()):
        uid, gid, mode = described(path)
        if path.name in SERVANTS:
            owner, closed = WORKER, mode & 0o077 == 0
        elif match := re.fullmatch(r"student([1-9][0-9]*)", path.name):
            owner, closed = s.UIDBASE + int(match[1]), mode & 0o027 == 0 and gid == s.GIDBASE + int(match[1])
            if user_name(int(match[1])) != path.name or not stat.S_ISDIR(path.lstat().st_mode):
                closed = False
        else:
            wrong.append(f"{path.name} is nobody's")
            continue
        if uid != owner or not closed:
            wrong.append(f"{path.name} is {uid}:{gid} {mode:04o}")
    assert not wrong, "; ".join(wrong)


def test_a_seat_cannot_fill_the_disk(facts: Facts) -> None:
    """Each seat's share of the disk is limited, by quotas of the file system or by the watchdog."""
    assert facts.settings.WODSEATDISK != "0", "WODSEATDISK is 0"
    said = StateDirectory(facts.state, facts.root).remembered("disk") or "nothing"
    assert facts.settings.WODSEATDISK in said, f"the last `up` set: {said}"


def test_one_password_opens_one_seat(facts: Facts) -> None:
    """No password that opens every seat is set, as for a test event."""
    assert not StateDirectory(facts.state, facts.root).has_secret("fixed-password"), "fixed-password is set"
