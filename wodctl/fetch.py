"""The fetcher: brings what the repositories have now into use, every WODSYNCMINUTES. `python -m wodctl.fetch`.

It has no way to the database, the engine or the homes: what others' repositories and servers send is parsed here,
by git, and nowhere else in the stack. It may be killed at any moment; see wodctl.adapters.repositories.
"""

import itertools
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

from wodctl.adapters.repositories import SECONDS, Repositories
from wodctl.errors import WodError

SETTINGS = Path("/etc/wod/settings.json")
STATE = Path("/srv/wod")
ASKPASS = Path("/usr/local/bin/askpass")
AUTHORITIES = "/etc/wod/ca.crt"
ALIVE = Path("/run/wod/alive")
"""Its time of change lies in the future: until then we promise to be back. The health check looks at it."""

LONGEST_SYNC = 4 * SECONDS
"""Seconds: each of git's few calls has a limit of its own."""

log = logging.getLogger("wod")


def main() -> None:
    """Fetch at once, and from then on every WODSYNCMINUTES, until SIGTERM."""
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stdout)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = json.loads(SETTINGS.read_text())
    repositories = Repositories(ASKPASS, STATE, settings["repositories"], AUTHORITIES)
    pause = 60.0 * settings["minutes"]
    for number in itertools.count():
        for kind in repositories.kinds():
            _promise(LONGEST_SYNC)
            _sync(repositories, kind, is_first=number == 0)
        _promise(pause + 60)
        time.sleep(pause)


def _sync(repositories: Repositories, kind: str, *, is_first: bool) -> None:
    """Fetch one repository; what hinders it is said, and kept for `wodctl notebooks status`."""
    try:
        is_new = repositories.sync(kind)
    except (WodError, OSError) as problem:
        log.warning("%s: %s The last good commit stays in use.", kind, problem)
        return
    if is_new or is_first:
        log.info("%s: %s is %s in use", kind, repositories.status(kind).commit, "now" if is_new else "still")


def _promise(seconds: float) -> None:
    ALIVE.touch()
    until = time.time() + seconds
    os.utime(ALIVE, (until, until))


if __name__ == "__main__":
    main()
