"""Starts the gate with the site's values: at the engine of this host, or at those of other hosts (WOD_DOCKER_HOSTS)."""

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

from wod_gate.engines import EngineProblem, Local, Tls, Tunnelled
from wod_gate.policy import Policy, PolicyProblem, Site
from wod_gate.proxy import Gate, log
from wodctl.model.docker_host import DockerHost

POLICY = Path("/etc/wod/gate/policy.yml")
SETTINGS = Path("/etc/wod/settings.json")
SOCKETS = Path("/run/gate")
ENGINE = Path("/var/run/docker.sock")
KEYS = Path("/run/secrets/appliance-hosts")
TUNNELS = Path("/tmp")  # noqa: S108 - the container's own


def main() -> int:
    """Serve until the engine is gone."""
    try:
        site = Site.gather(os.environ, json.loads(SETTINGS.read_text()))
        hosts = [DockerHost.parse(text) for text in os.environ.get("WOD_DOCKER_HOSTS", "").split()]
        asyncio.run(_serve_others(site, hosts) if hosts else _serve_own(site))
    except (PolicyProblem, EngineProblem, OSError, ValueError) as problem:
        log("ended", reason=str(problem))
    return 1


async def _serve_own(site: Site) -> None:
    policy = Policy(POLICY.read_text(), site)
    sockets = {client: SOCKETS / client / "docker.sock" for client in policy.uids}
    await Gate(policy, sockets, Local(ENGINE)).serve()


async def _serve_others(site: Site, hosts: list[DockerHost]) -> None:
    """The worker's sockets for other hosts, each below the host's name; one that is away stops none of the others."""
    policy = Policy(POLICY.read_text(), site, elsewhere=True)
    for former in SOCKETS.iterdir():
        if former.name not in {host.name for host in hosts}:
            shutil.rmtree(former, ignore_errors=True)
    async with asyncio.TaskGroup() as tasks:
        for host in hosts:
            engine: Tls | Tunnelled = Tls(host, KEYS / host.name)
            if host.user:
                engine = Tunnelled(host, KEYS / host.name, TUNNELS / f"{host.name}.sock")
                tasks.create_task(engine.keep())
            folder = SOCKETS / host.name
            folder.mkdir(exist_ok=True)
            folder.chmod(0o2750)
            sockets = {client: folder / "docker.sock" for client in policy.uids}
            tasks.create_task(Gate(policy, sockets, engine).serve())


sys.exit(main())
