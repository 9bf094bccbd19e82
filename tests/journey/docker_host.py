"""Another Docker host, for real: an engine in a container of its own, with a network of its own that the host routes
to, reached by TLS on port 2376 and by ssh. It has two addresses, so that it can stand for two hosts.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import docker

_START = """set -e
mkdir -p /run/sshd && chmod 600 /keys/host_key
/usr/sbin/sshd -f /dev/null -h /keys/host_key -o PidFile=none -o StrictModes=no \\
    -o AuthorizedKeysFile=/keys/authorized_keys
exec dockerd --host=unix:///var/run/docker.sock --host=tcp://0.0.0.0:2376 --tlsverify --tlscacert=/keys/ca.pem \\
    --tlscert=/keys/server.pem --tlskey=/keys/server-key.pem
"""


@dataclass(frozen=True)
class OtherHost:
    """Its container, its addresses, and the folder with what opens it: the files of both ways."""

    container: str
    addresses: tuple[str, str]
    files: Path

    def docker(self, *words: str) -> str:
        """Ask its engine, over there."""
        return docker("exec", self.container, "docker", *words)

    def open_for(self, state: Path) -> None:
        """Give a site what opens it, as an operator would."""
        by_tls, by_ssh = ("ca.pem", "cert.pem", "key.pem"), ("key", "known_hosts")
        for address, names in zip(self.addresses, (by_tls, by_ssh), strict=True):
            folder = state / "secrets" / "appliance-hosts" / address
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                (folder / name).write_bytes((self.files / name).read_bytes())

    def unplug(self) -> None:
        """It is away: there is no route to it."""
        for address in self.addresses:
            _run("ip", "route", "add", "unreachable", f"{address}/32")

    def plug_in(self) -> None:
        """It is back."""
        for address in self.addresses:
            _run("ip", "route", "delete", "unreachable", f"{address}/32")


@contextmanager
def other_docker_host(image: str, folder: Path) -> Iterator[OtherHost]:
    """An engine that runs in this image, as long as the `with` lasts."""
    number = os.getpid() % 250
    container, here = f"wodtests-host-{os.getpid()}", f"10.98.{number}.1"
    there = (f"10.98.{number}.2", f"10.98.{number}.3")
    _make_keys(folder, there)
    try:
        docker(
            *(
                "run",
                "--detach",
                f"--name={container}",
                "--privileged",
                "--network=none",
                "--user=0",
                "--init",
            ),
            *("--tmpfs=/run", "--volume=/var/lib/docker", f"--volume={folder}:/keys", "--entrypoint=sh"),
            *("--no-healthcheck", image, "-c", _START),
        )
        pid = docker("inspect", "--format={{.State.Pid}}", container).strip()
        _run("ip", "link", "add", _interface(), "type", "veth", "peer", "name", "eth0", "netns", pid)
        _run("ip", "address", "add", f"{here}/24", "dev", _interface())
        _run("ip", "link", "set", _interface(), "up")
        inside = ("nsenter", "--net", f"--target={pid}", "ip")
        for address in there:
            _run(*inside, "address", "add", f"{address}/24", "dev", "eth0")
        _run(*inside, "link", "set", "eth0", "up")
        _run(*inside, "route", "add", "default", "via", here)
        end = time.monotonic() + 60
        while not docker("exec", container, "docker", "version", check=False):
            assert time.monotonic() < end, docker("logs", container, check=False)
            time.sleep(0.5)
        yield OtherHost(container, there, folder)
    finally:
        docker("rm", "--force", "--volumes", container, check=False)
        subprocess.run(["ip", "link", "delete", _interface()], capture_output=True, check=False)


def _interface() -> str:
    return f"wodhost{os.getpid()}"[:15]


def _make_keys(folder: Path, addresses: tuple[str, str]) -> None:
    """An authority with a certificate for each side, and keys of ssh for each side."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("key", "host_key"):
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name))
    (folder / "authorized_keys").write_text((folder / "key.pub").read_text())
    (folder / "known_hosts").write_text(f"{','.join(addresses)} {(folder / 'host_key.pub').read_text()}")
    new = (
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days=2",
    )
    ca = (f"-keyout={folder}/ca-key.pem", f"-out={folder}/ca.pem")
    _openssl(folder, *new, "-subj=/CN=authority", "-addext=keyUsage=critical,keyCertSign", *ca)
    signed = (
        f"-CA={folder}/ca.pem",
        f"-CAkey={folder}/ca-key.pem",
        "-addext=basicConstraints=critical,CA:FALSE",
    )
    names = ",".join(f"IP:{address}" for address in addresses)
    server = (
        f"-keyout={folder}/server-key.pem",
        f"-out={folder}/server.pem",
        f"-addext=subjectAltName={names}",
    )
    _openssl(folder, *new, "-subj=/CN=server", *signed, *server)
    client = (f"-keyout={folder}/key.pem", f"-out={folder}/cert.pem", "-addext=extendedKeyUsage=clientAuth")
    _openssl(folder, *new, "-subj=/CN=client", *signed, *client)


def _openssl(folder: Path, *words: str) -> None:
    """openssl takes its values apart from its options."""
    apart = [part for word in words for part in (word.split("=", 1) if word.startswith("-") else [word])]
    subprocess.run(apart, cwd=folder, capture_output=True, check=True)


def _run(*words: str) -> None:
    subprocess.run(words, capture_output=True, text=True, check=True)
