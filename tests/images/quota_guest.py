#!/usr/bin/python3
"""The first program of a Linux of its own (image `kernel`): what quota.py does to file systems there, as JSON.

Each file system is made as docs/operators.md says. Lines on the console that begin with "wod:" are for the test.
"""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

sys.path.insert(0, "/guest")
FIRST, SECOND, THIRD, STRANGER = 2001, 2002, 2003, 2004
SIZE, FILES = 2**21, 50


def tell(name: str, value: Any) -> None:
    print(f"wod:{json.dumps([name, value])}", flush=True)


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def as_user(uid: int, act: Callable[[], Any]) -> Any:
    """What the function returns where that user calls it, or the name of the error that stops him."""
    reading, writing = os.pipe()
    if not os.fork():
        try:
            os.setgid(uid)
            os.setuid(uid)
            said: Any = act()
        except OSError as error:
            said = error.strerror
        os.write(writing, json.dumps(said).encode())
        os._exit(0)
    os.wait()
    return json.loads(os.read(reading, 1000))


def write(home: str, size: int) -> list[Any]:
    """How many bytes of a file of that size can be written, and what stops it."""
    written = 0
    with open(f"{home}/large", "wb", buffering=0) as large:
        try:
            while written < size:
                written += large.write(bytes(2**16))
        except OSError as error:
            return [written, error.strerror]
    return [written, None]


def make_files(home: str) -> list[Any]:
    for number in range(4 * FILES):
        try:
            os.close(os.open(f"{home}/{number}", os.O_CREAT))
        except OSError as error:
            return [number, error.strerror]
    return [4 * FILES, None]


def limit(root: str, size: int = SIZE, files: int = FILES) -> str:
    """As the program runs in a container: for three seats."""
    return run("python3", "/guest/quota.py", root, str(FIRST), "3", str(size), str(files))


def try_limits(kind: str, root: str) -> None:
    from quota import limits  # type: ignore[import-not-found]

    homes = {uid: f"{root}/{uid}" for uid in (FIRST, SECOND, THIRD, STRANGER)}
    for uid, home in homes.items():
        os.mkdir(home)
        os.chown(home, uid, uid)
    tell(f"{kind} refusal", limit(root))
    tell(f"{kind} limits", [limits(root, uid) for uid in (FIRST, THIRD)])
    tell(f"{kind} first writes", as_user(FIRST, lambda: write(homes[FIRST], 4 * SIZE)))
    tell(
        f"{kind} first gives away", as_user(FIRST, lambda: os.chown(f"{homes[FIRST]}/large", SECOND, SECOND))
    )
    tell(f"{kind} second writes", as_user(SECOND, lambda: write(homes[SECOND], SIZE // 2)))
    tell(f"{kind} third makes files", as_user(THIRD, lambda: make_files(homes[THIRD])))
    tell(f"{kind} stranger writes", as_user(STRANGER, lambda: write(homes[STRANGER], 4 * SIZE)))
    limit(root, 2 * SIZE)
    tell(f"{kind} more is allowed", as_user(FIRST, lambda: write(homes[FIRST], 8 * SIZE)))
    limit(root, 0, 0)
    tell(f"{kind} all is allowed", as_user(FIRST, lambda: write(homes[FIRST], 8 * SIZE)))


def main() -> None:
    for kind, where in (("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/run")):
        os.makedirs(where, exist_ok=True)
        run("mount", "-t", kind, kind, where)
    for module in ("loop", "xfs", "quota_v2"):
        run("modprobe", module)
    for kind, option in (("ext4", "usrquota"), ("xfs", "uquota")):
        image, root = f"/run/{kind}.img", f"/run/{kind}"
        with open(image, "wb") as file:
            file.truncate(320 * 2**20)
        os.mkdir(root)
        run(f"mkfs.{kind}", "-q", image)
        run("mount", "-o", "loop", image, root)
        tell(f"{kind} without quotas", limit(root))
        run("umount", root)
        if kind == "ext4":
            run("tune2fs", "-O", "quota", image)
        run("mount", "-o", f"loop,{option}", image, root)
        try_limits(kind, root)
    tell("tmpfs refusal", limit("/run"))


if __name__ == "__main__":
    os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    try:
        main()
        tell("ended", True)
    except Exception as error:
        tell("ended", f"{type(error).__name__}: {error}")
    os.sync()
    ctypes.CDLL(None).reboot(0x4321FEDC)  # RB_POWER_OFF
