"""Another Docker host, as the operator's commands reach it: docker's own client, by TLS or through an ssh of ours."""

import http.client
import json
import os
import ssl
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from wodctl.adapters import process
from wodctl.adapters.containers import Containers
from wodctl.errors import EngineProblem
from wodctl.model.docker_host import FOLDER, DockerHost

PATIENCE = 15
"""Seconds until a host that does not answer is away."""

DELIVERY = 1800
"""Seconds for one image."""


@dataclass(frozen=True)
class Reached:
    """A host whose engine answers: what docker's client needs to know in its environment, and its containers.

    Methods raise EngineProblem.
    """

    host: DockerHost
    environment: Mapping[str, str]
    containers: Containers

    def appliances(self, project: str) -> list[dict[str, Any]]:
        """The containers of the project's appliances, companions too, as the engine inspects them."""
        ids = self._docker(
            "ps", "--all", "--quiet", "--no-trunc", f"--filter=label=wod.project={project}"
        ).split()
        return list(json.loads(self._docker("container", "inspect", *ids))) if ids else []

    def ensure_network(self, name: str, project: str) -> None:
        """The network of the project's appliances is there; in it nobody reaches anybody."""
        if name not in self._docker("network", "ls", "--format={{.Name}}").split():
            self._docker(
                *("network", "create", f"--label=wod.project={project}"),
                *("--opt=com.docker.network.bridge.enable_icc=false", name),
            )

    def ensure_image(self, tag: str) -> bool:
        """The host has this image of ours, the very one; whether it had to be delivered."""
        digest = process.run(["docker", "image", "inspect", "--format={{.Id}}", tag]).strip()
        try:
            if self._docker("image", "inspect", "--format={{.Id}}", tag).strip() == digest:
                return False
        except process.ProgramFailed as error:
            if "No such image" not in error.output:
                raise
        with subprocess.Popen(["docker", "save", tag], stdout=subprocess.PIPE) as saving:
            try:
                done = subprocess.run(
                    ["docker", "load", "--quiet"], env=os.environ | dict(self.environment), stdin=saving.stdout,
                    capture_output=True, text=True, timeout=DELIVERY, check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                raise EngineProblem(
                    f"The Docker host {self.host.name} did not take {tag} within {DELIVERY} s."
                ) from None
            finally:
                saving.kill()
        if done.returncode != 0:
            raise EngineProblem(
                f"The Docker host {self.host.name} did not take {tag}: {done.stderr.strip()[-300:]}"
            )
        return True

    def remove_images(self, tags: Collection[str]) -> list[str]:
        """Remove images unless a container needs them; which of them are still there."""
        left = []
        for tag in tags:
            try:
                self._docker("image", "rm", tag)
            except process.ProgramFailed as error:
                if "No such image" not in error.output:
                    left.append(tag)
        return left

    def remove_all(self, project: str) -> None:
        """Remove the containers and networks of a project."""
        for container in self.appliances(project):
            self._docker("rm", "--force", "--volumes", container["Id"])
        for name in self._docker(
            "network", "ls", "--format={{.Name}}", f"--filter=label=wod.project={project}"
        ).split():
            self._docker("network", "rm", name)

    def _docker(self, *words: str) -> str:
        return process.run(["docker", *words], environment=self.environment, timeout=120)


@contextmanager
def reached(host: DockerHost, state: Path) -> Iterator[Reached]:
    """The host, as long as the `with` lasts. Raises EngineProblem in one sentence if it is away."""
    folder = state / FOLDER / host.name
    missing = [name for name in host.files if not (folder / name).is_file()]
    if missing:
        raise EngineProblem(
            f"The Docker host {host.name} cannot be reached without {' and '.join(missing)}.",
            hint=f"Write {'them' if len(missing) > 1 else 'it'} into {folder}/.",
        )
    with tempfile.TemporaryDirectory(prefix="wod-") as own:
        if host.user:
            with _tunnel(host, folder, Path(own)) as socket:
                environment = {"DOCKER_HOST": f"unix://{socket}", "DOCKER_TLS_VERIFY": ""}
                yield _answering(Reached(host, environment, Containers(socket, host=host.name)))
        else:
            environment = {
                "DOCKER_HOST": f"tcp://{host.name}:{host.port}", "DOCKER_TLS_VERIFY": "1",
                "DOCKER_CERT_PATH": str(folder),
            }  # fmt: skip
            context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
            context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
            connect = partial(_tls_connection, host, context)
            yield _answering(Reached(host, environment, Containers(host=host.name, connect=connect)))


def _tls_connection(host: DockerHost, context: ssl.SSLContext, timeout: float) -> http.client.HTTPConnection:
    return http.client.HTTPSConnection(host.name, host.port, timeout=timeout, context=context)


@contextmanager
def _tunnel(host: DockerHost, folder: Path, own: Path) -> Iterator[Path]:
    """A socket that leads to the host's engine through ssh. The key is copied: ssh wants it to be its user's alone."""
    key = own / "key"
    key.touch(mode=0o600)
    key.write_bytes((folder / "key").read_bytes())
    (own / "known_hosts").write_bytes((folder / "known_hosts").read_bytes())
    socket = own / "docker.sock"
    with subprocess.Popen(
        host.tunnel(own, socket), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as ssh:
        try:
            end = time.monotonic() + PATIENCE
            while not socket.exists():
                if ssh.poll() is not None or time.monotonic() > end:
                    ssh.kill()
                    said = (ssh.stderr.read() if ssh.stderr else "").strip().splitlines()
                    raise _away(host, said[-1] if said else "ssh does not connect")
                time.sleep(0.05)
            yield socket
        finally:
            ssh.kill()


def _answering(there: Reached) -> Reached:
    try:
        process.run(
            ["docker", "version", "--format={{.Server.Version}}"],
            environment=there.environment,
            timeout=PATIENCE,
        )
    except EngineProblem as error:
        said = getattr(error, "output", error.message).strip().splitlines()
        raise _away(there.host, said[-1] if said else "no answer") from None
    return there


def _away(host: DockerHost, why: str) -> EngineProblem:
    return EngineProblem(
        f"The Docker host {host.name} is away: {why}",
        hint="Look whether it runs, and whether its files in secrets/appliance-hosts are right.",
    )
