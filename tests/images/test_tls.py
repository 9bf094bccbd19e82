"""TLS at the proxy: a real Traefik with what `wodctl up` gives it, asked by OpenSSL; ACME from a real authority."""

import datetime
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.conftest import ROOT, docker
from wodctl.adapters import certificate, configuration
from wodctl.adapters.builder import Builder
from wodctl.adapters.state import PROXY, StateDirectory
from wodctl.model import proxy
from wodctl.model.settings import Settings

NAME = f"wodtesttls-{os.getpid()}"
HOST = "wod.test"

# Says by HTTP what it was asked with; whoever asks for an upgrade gets back what he sends.
SERVER = """
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if "Upgrade" in self.headers:
            self.send_response(101)
            self.send_header("Connection", "Upgrade")
            self.send_header("Upgrade", "websocket")
            self.end_headers()
            while data := self.request.recv(1024):
                self.request.sendall(data)
        else:
            said = json.dumps(dict(self.headers)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)
import sys, threading
for port in (8021, 8888):
    server = ThreadingHTTPServer(("", port), Server)
    threading.Thread(target=server.serve_forever).start()
"""


@dataclass
class Authority:
    """An authority of our own, and its certificates for HOST."""

    folder: Path

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of the tests")])
        own = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, None), True)
        self.file = self.folder / "ca.crt"
        self.file.write_bytes(own.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.timezone.utc)
        day = datetime.timedelta(days=1)
        return (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - day).not_valid_after(now + 30 * day)
        )  # fmt: skip

    def issue(self, name: str) -> tuple[Path, Path]:
        """A new certificate for that name, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(x509.Name([]), key)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), True)
        one, other = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        one.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        other.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return one, other


@dataclass
class Site:
    """A proxy, prepared as `wodctl up` prepares it, with a server behind it as hub and as registration API."""

    folder: Path
    authority: Authority
    settings: Settings
    base: str
    address: str = ""

    @property
    def state(self) -> StateDirectory:
        return StateDirectory(self.folder / "state", ROOT)

    def take_certificate(self) -> None:
        """As `wodctl up` does with the files of the operator."""
        s = self.settings
        found = certificate.read(
            Path(s.WODTLSCERT),
            Path(s.WODTLSKEY),
            proxy.names(s),
            datetime.datetime.now(datetime.timezone.utc),
        )
        name = self.state.ensure_certificate(found.text, self.base)
        self.state.ensure_site_routes(proxy.dynamic(s, name), self.base)

    def serial(self, name: str | None = HOST) -> int:
        """The serial number of the certificate that is shown to who asks for that name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        plain = socket.create_connection((self.address, 8000), timeout=60)
        with context.wrap_socket(plain, server_hostname=name) as secure:
            shown = secure.getpeercert(binary_form=True)
        assert shown
        return x509.load_der_x509_certificate(shown).serial_number

    def get(
        self, path: str = "/", port: int = 8000, *, authority: Path | None = None
    ) -> http.client.HTTPResponse:
        """Ask as a browser that knows the authority and insists on the name; the body is in `text`."""
        context = ssl.create_default_context(cafile=authority or self.authority.file)
        plain = socket.create_connection((self.address, port), timeout=60)
        with context.wrap_socket(plain, server_hostname=HOST) as secure:
            secure.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
            answer = http.client.HTTPResponse(secure)  # type: ignore[arg-type]
            answer.begin()
            answer.text = answer.read().decode()  # type: ignore[attr-defined]
            return answer


def settings_of(folder: Path, **given: Any) -> Settings:
    names = {"WODBEFQDN": HOST, "WODBEPORT": 18743, "WODTYPE": "all"}
    return configuration.load(ROOT, folder / "none", {}, names | given)[0]


def run(site: Site, builder: Builder) -> None:
    """Render, and start what is wanted; in the site's own network the proxy is known as HOST."""
    state = site.state.path
    for folder in (
        "rendered/fail2ban",
        "rendered/postfix",
        "secrets/proxy",
        "data/routes",
        "data/certificates",
    ):
        (state / folder).mkdir(parents=True)
    os.chown(state / "data/routes", 0, PROXY)
    (state / "data/routes").chmod(0o2750)
    os.chown(state / "data/certificates", PROXY, PROXY)
    site.state.render(site.settings)
    if site.settings.WODTLS == "files":
        site.take_certificate()
    else:
        site.state.ensure_site_routes(proxy.dynamic(site.settings, None), site.base)
    routes = {
        "http": {
            "routers": {
                "hub": {"rule": "PathPrefix(`/`)", "service": "hub", "entryPoints": ["web"]},
                "inside_student3": {"rule": "PathPrefix(`/`)", "service": "hub", "entryPoints": ["inside"]},
            },
            "services": {"hub": {"loadBalancer": {"servers": [{"url": "http://api-db:8888"}]}}},
        }
    }
    (state / "data/routes/hub.yaml").write_text(json.dumps(routes))
    closed = ["--detach", "--read-only", "--cap-drop=ALL", f"--network={NAME}"]
    docker(
        "run", *closed, f"--name={NAME}-server", "--network-alias=api-db", site.base, "python3", "-c", SERVER
    )
    docker(
        *("run", *closed, f"--name={NAME}-proxy", f"--network-alias={HOST}"),
        f"--volume={state}/data/routes:/var/lib/traefik:ro",
        f"--volume={state}/rendered/traefik.yml:/etc/traefik/traefik.yml:ro",
        f"--volume={state}/secrets/proxy:/run/certificates:ro",
        f"--volume={state}/data/certificates:/var/lib/acme",
        f"--volume={site.authority.file}:/etc/wod/ca.crt:ro",
        builder.tag("proxy"),
    )
    wait_until(
        lambda: docker("inspect", "-f", "{{.State.Health.Status}}", f"{NAME}-proxy").strip() == "healthy"
    )
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    site.address = docker("inspect", "--format", form, f"{NAME}-proxy").strip()


def wait_until(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, docker("logs", f"{NAME}-proxy")
        time.sleep(0.1)


def builder_of(*tests: str) -> Builder:
    """What builds the images: the proxy if it is missing, and those of the tests alone."""
    state = Path("/var/lib/wod-tests")
    builder = Builder(ROOT, state, configuration.load(ROOT, state, {}, {})[0])
    builder.build([*(name for name in builder.missing() if name in ("base", "proxy")), *tests])
    return builder


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not below the temporary folder of pytest, which is closed to other users."""
    made = Path(f"/tmp/{NAME}")
    made.mkdir(mode=0o755)
    docker("network", "create", NAME)
    yield made
    left = docker("ps", "--all", "--quiet", "--filter", f"name=^{NAME}-").split()
    docker("rm", "--force", "--volumes", *left, check=False)
    docker("network", "rm", NAME, check=False)
    shutil.rmtree(made)


@pytest.fixture
def site(folder: Path) -> Site:
    builder = builder_of()
    authority = Authority(folder)
    one, other = authority.issue(HOST)
    settings = settings_of(folder, WODTLS="files", WODTLSCERT=str(one), WODTLSKEY=str(other))
    made = Site(folder, authority, settings, builder.tag("base"))
    run(made, builder)
    return made


def offered(address: str, *words: str) -> bool:
    """Whether the proxy agrees to speak TLS in this way; OpenSSL's own limits are taken away."""
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"{address}:8000", "-servername", HOST, *words],
        input=b"", capture_output=True, timeout=20, check=False,
    )  # fmt: skip
    assert b"unknown option" not in done.stderr and b"no ciphers available" not in done.stderr, done.stderr
    return b"Cipher is (NONE)" not in done.stdout and b"-----BEGIN CERTIFICATE-----" in done.stdout


def test_tls_with_files(site: Site) -> None:
    """Hub and registration API by HTTPS alone and no weak way; a renewed certificate ends no open websocket."""
    # The host's own certificate, for its name, for none and for another one: there is no second.
    answer = site.get("/hub/login")
    assert answer.status == 200
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    # By this hub and API know that they are asked by HTTPS, and by whom.
    seen = json.loads(answer.text)  # type: ignore[attr-defined]
    assert seen["X-Forwarded-Proto"] == "https" and seen["X-Forwarded-For"].count(".") == 3
    assert site.get("/api/docs", 8021).status == 200
    first = site.serial()
    assert {site.serial(None), site.serial("other.test")} == {first}

    # Plain HTTP is led over at its own port, and gets nothing at the others.
    connection = http.client.HTTPConnection(site.address, 8080, timeout=60)
    connection.request("GET", "/user/student3/lab?a=b", headers={"Host": HOST})
    redirect = connection.getresponse()
    assert (redirect.status, redirect.getheader("Location")) == (
        301,
        f"https://{HOST}:18743/user/student3/lab?a=b",
    )
    for port in (8000, 8021):
        connection = http.client.HTTPConnection(site.address, port, timeout=60)
        connection.request("GET", "/", headers={"Host": HOST})
        assert connection.getresponse().status in (400, 404), port
    # The worker, inside, needs none of it.
    connection = http.client.HTTPConnection(site.address, 8001, timeout=60)
    connection.request("GET", "/")
    assert connection.getresponse().status == 200

    weak = "ALL:@SECLEVEL=0"
    for words, good in [
        (["-tls1_3"], True),
        (["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"], True),
        (["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"], True),
        (["-tls1_1", "-cipher", weak], False),
        (["-tls1", "-cipher", weak], False),
        (["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"], False),
        (["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA:@SECLEVEL=0"], False),
        (["-tls1_2", "-cipher", "AES128-GCM-SHA256:AES256-SHA:@SECLEVEL=0"], False),
    ]:
        assert offered(site.address, *words) == good, words

    # Key and certificate are the proxy's, and in nothing that tells of the container.
    [file] = (site.state.path / "secrets/proxy").iterdir()
    assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (PROXY, 0o400)
    for words in (["inspect", f"{NAME}-proxy"], ["logs", f"{NAME}-proxy"]):
        assert "PRIVATE KEY" not in docker(*words)

    context = ssl.create_default_context(cafile=site.authority.file)
    with context.wrap_socket(
        socket.create_connection((site.address, 8000), 10), server_hostname=HOST
    ) as open_one:
        upgrade = f"GET /ws HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        open_one.sendall(upgrade.encode())
        assert open_one.recv(4096).startswith(b"HTTP/1.1 101 ")
        site.authority.issue(HOST)
        site.take_certificate()
        wait_until(lambda: site.serial() != first)
        open_one.sendall(b"still here")
        assert open_one.recv(4096) == b"still here"
    assert site.get().status == 200
    assert "certificate" not in docker("logs", f"{NAME}-proxy")


def test_tls_from_an_acme_authority(folder: Path) -> None:
    """The proxy asks the authority of the settings for a certificate by itself, is asked at its plain port, and keeps
    the certificate over a restart."""
    builder = builder_of("pebble")
    authority = Authority(folder)
    one, other = authority.issue("pebble")
    settings = settings_of(
        folder, WODTLS="acme", WODACMEDIRECTORY="https://pebble:14000/dir", WODTYPE="backend"
    )
    site = Site(folder, authority, settings, builder.tag("base"))
    (folder / "config.json").write_text(json.dumps({"pebble": {
        "listenAddress": "0.0.0.0:14000", "managementListenAddress": "0.0.0.0:15000",
        "certificate": "/etc/pebble/pebble.crt", "privateKey": "/etc/pebble/pebble.key",
        "httpPort": 8080, "tlsPort": 8000, "ocspResponderURL": "", "externalAccountBindingRequired": False,
    }}))  # fmt: skip
    other.chmod(0o644)
    docker(
        *("run", "--detach", f"--name={NAME}-pebble", f"--network={NAME}", "--network-alias=pebble"),
        f"--volume={folder}/config.json:/etc/pebble/config.json:ro",
        f"--volume={one}:/etc/pebble/pebble.crt:ro",
        f"--volume={other}:/etc/pebble/pebble.key:ro",
        builder.tag("pebble"),
    )
    run(site, builder)

    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    management = docker("inspect", "--format", form, f"{NAME}-pebble").strip()
    context = ssl.create_default_context(cafile=authority.file)
    context.check_hostname = False
    asked = http.client.HTTPSConnection(management, 15000, context=context, timeout=60)
    asked.request("GET", "/roots/0")
    root = folder / "root.crt"
    root.write_bytes(asked.getresponse().read())

    def is_trusted() -> bool:
        try:
            return site.get(authority=root).status == 200
        except ssl.SSLCertVerificationError:
            return False

    wait_until(is_trusted)
    first = site.serial()
    stored = site.state.path / "data/certificates/acme.json"
    assert (stored.stat().st_uid, stored.stat().st_mode & 0o777) == (PROXY, 0o600)
    docker("restart", "--time=1", f"{NAME}-proxy")
    wait_until(
        lambda: docker("inspect", "-f", "{{.State.Health.Status}}", f"{NAME}-proxy").strip() == "healthy"
    )
    site.address = docker("inspect", "--format", form, f"{NAME}-proxy").strip()
    assert is_trusted() and site.serial() == first
