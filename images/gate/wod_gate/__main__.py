"""Starts the gate with the site's values."""

import asyncio
import json
import os
import sys
from pathlib import Path

from wod_gate.policy import Policy, PolicyProblem, Site
from wod_gate.proxy import EngineProblem, Gate, log

POLICY = Path("/etc/wod/gate/policy.yml")
SETTINGS = Path("/etc/wod/settings.json")
SOCKETS = Path("/run/gate")
ENGINE = Path("/var/run/docker.sock")


def main() -> int:
    """Serve until the engine is gone."""
    try:
        site = Site.gather(os.environ, json.loads(SETTINGS.read_text()))
        asyncio.run(Gate(Policy(POLICY.read_text(), site), SOCKETS, ENGINE).serve())
    except (PolicyProblem, EngineProblem, OSError, ValueError) as problem:
        log("ended", reason=str(problem))
    return 1


sys.exit(main())
