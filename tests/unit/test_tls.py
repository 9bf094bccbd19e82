"""TLS: which certificates are taken, and what proxy and settings make of them."""

import datetime
import ipaddress
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from wodctl.adapters import certificate, configuration
from wodctl.errors import ConfigProblem
from wodctl.model import proxy
from wodctl.model.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


def made(folder: Path, names: list[str], first: int = -1, last: int = 30) -> tuple[Path, Path]:
    """Certificate and key, good from `first` to `last` days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "common.example.net")])
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + first * DAY).not_valid_after(NOW + last * DAY)
    )  # fmt: skip
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general(name) for name in names]), False
        )
    one, other = folder / "cert.pem", folder / "key.pem"
    one.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    other.write_bytes(written(key))
    return one, other


def written(key: Any, sealed: KeySerializationEncryption | None = None) -> bytes:
    text: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealed or NoEncryption())
    return text


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@pytest.mark.parametrize(
    ("of", "name"),
    [
        ("jup.example.net", "jup.example.net"),
        ("jup.example.net", "JUP.example.net."),
        ("*.example.net", "jup.example.net"),
        ("192.0.2.7", "192.0.2.7"),
    ],
)
def test_a_certificate_for_the_name_is_taken(tmp_path: Path, of: str, name: str) -> None:
    """Names in any case, a star for one label, addresses; certificate and key come back in one text."""
    one, other = made(tmp_path, ["more.example.net", of])
    read = certificate.read(one, other, [name], NOW)
    assert read.text == one.read_bytes() + other.read_bytes()
    assert read.until == NOW + 30 * DAY


@pytest.mark.parametrize(
    ("of", "name"),
    [
        ([], "common.example.net"),
        (["jup.example.net"], "jup.example.org"),
        (["*.example.net"], "example.net"),
        (["*.example.net"], "a.jup.example.net"),
        (["*.0.2.7"], "192.0.2.7"),
        (["192.0.2.8"], "192.0.2.7"),
    ],
)
def test_a_certificate_for_others_is_refused(tmp_path: Path, of: list[str], name: str) -> None:
    """As browsers do: the common name counts for nothing, a star for one label and for no address."""
    one, other = made(tmp_path, of)
    with pytest.raises(ConfigProblem, match=f"is not for {name}"):
        certificate.read(one, other, [name], NOW)


def test_what_cannot_serve_is_refused_with_the_reason(tmp_path: Path) -> None:
    """Expired, not yet good, another's key, a sealed key, no PEM, no file: each is told by its own words."""

    def refusal(one: Path, other: Path) -> str:
        with pytest.raises(ConfigProblem) as refused:
            certificate.read(one, other, ["a.example.net"], NOW)
        return refused.value.message

    one, other = made(tmp_path, ["a.example.net"], first=-9, last=-1)
    assert "has expired: it was good until 2029-12-31" in refusal(one, other)
    one, other = made(tmp_path, ["a.example.net"], first=2)
    assert "is not good before 2030-01-03" in refusal(one, other)
    one, other = made(tmp_path, ["a.example.net"])
    assert "has no certificate" in refusal(other, other)
    assert "has no key" in refusal(one, one)
    assert "cannot be read: No such file" in refusal(one, tmp_path / "none")
    key = ec.generate_private_key(ec.SECP256R1())
    other.write_bytes(written(key))
    assert "is not that of the first certificate" in refusal(one, other)
    other.write_bytes(written(key, BestAvailableEncryption(b"x")))
    assert "sealed with a passphrase" in refusal(one, other)


def settings(tmp_path: Path, **given: Any) -> Settings:
    return configuration.load(ROOT, tmp_path, {}, {"WODBEFQDN": "jup.example.net"} | given)[0]


FILES = {"WODTLS": "files", "WODTLSCERT": "/c.pem", "WODTLSKEY": "/k.pem"}


def test_all_addresses_follow_tls(tmp_path: Path) -> None:
    """With TLS participants are told https:// and no port but an unusual one; so it is for the registration API."""
    assert settings(tmp_path).outside_url == "http://jup.example.net:8000"
    assert settings(tmp_path, **FILES).outside_url == "https://jup.example.net"
    assert settings(tmp_path, **FILES, WODBEPORT=8443).outside_url == "https://jup.example.net:8443"
    assert settings(tmp_path, **FILES, WODTYPE="all").api_url == "https://jup.example.net:8021"
    # Another host's is none of our business.
    assert settings(tmp_path, **FILES).api_url == "http://jup.example.net:8021"
    assert settings(tmp_path, WODTYPE="all").api_url == "http://jup.example.net:8021"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"WODTLS": "on"}, "off, files or acme"),
        ({"WODTLS": "files"}, "the path of a file"),
        ({"WODTLS": "acme", "WODHTTPPORT": 0}, "the authority asks there"),
        ({"WODTLS": "acme", "WODACMEDIRECTORY": "http://ca.example.net/dir"}, "an address https://"),
        ({"WODTLS": "acme", "WODBEPROTO": "http"}, "https, for WODTLS is acme"),
        ({"WODBEPROTO": "https"}, "WODTLS or, where TLS ends in front of this host, WODBEEXTPROTO"),
        ({"WODTLS": "acme", "WODHTTPPORT": 443}, "another port than WODBEPORT"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    tmp_path: Path, given: dict[str, Any], words: str
) -> None:
    """Nothing is begun that could not work."""
    with pytest.raises(ConfigProblem, match=words):
        settings(tmp_path, **given)


def test_off_may_be_written_as_it_is_read(tmp_path: Path) -> None:
    """YAML takes a bare `off` for false."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/production.yml").write_text("WODTLS: off\n")
    assert configuration.load(ROOT, tmp_path, {}, {})[0].WODTLS == "off"


def test_without_tls_the_proxy_is_as_it_always_was(tmp_path: Path) -> None:
    """What is rendered is conf/traefik/traefik.yml, and nothing beside the hub's routes."""
    base = yaml.safe_load((ROOT / "conf/traefik/traefik.yml").read_text())
    assert proxy.static(base, settings(tmp_path)) == base
    assert proxy.dynamic(settings(tmp_path), None) == {}


def test_acme_asks_for_all_names_that_browsers_use(tmp_path: Path) -> None:
    """Those outside: of the backend and, where it is on this host, of the registration API; no other."""
    given = settings(tmp_path, WODTLS="acme", WODTYPE="all", WODBEEXTFQDN="out.example.net",
                     WODAPIDBEXTFQDN="api.example.net", WODACMEMAIL="ops@example.net")  # fmt: skip
    base = yaml.safe_load((ROOT / "conf/traefik/traefik.yml").read_text())
    static = proxy.static(base, given)
    for entry in ("web", "registration"):
        assert static["entryPoints"][entry]["http"]["tls"]["domains"] == [
            {"main": "out.example.net", "sans": ["api.example.net"]}
        ]
    resolver = static["certificatesResolvers"]["acme"]["acme"]
    assert resolver["email"] == "ops@example.net" and "caServer" not in resolver
    assert proxy.names(
        settings(tmp_path, WODTLS="acme", WODTYPE="api-db", WODAPIDBFQDN="api.example.net")
    ) == ["api.example.net"]


@pytest.mark.parametrize("tls", ["off", "acme"])
def test_only_trusted_proxies_are_believed(tmp_path: Path, tls: str) -> None:
    """What they say of the browser stays, at each entry from outside; what everybody else says is taken away."""
    base = yaml.safe_load((ROOT / "conf/traefik/traefik.yml").read_text())
    given = {"WODTLS": tls, "WODBEFQDN": "lab.example.net", "WODTYPE": "all"}
    trusting = settings(tmp_path, **given, WODTRUSTEDPROXIES=["192.0.2.8"])
    for name, entry in proxy.static(base, trusting)["entryPoints"].items():
        trusted = entry.get("forwardedHeaders", {}).get("trustedIPs", [])
        assert trusted == (["192.0.2.8"] if name not in ("inside", "api") else []), name
    for entry in proxy.static(base, settings(tmp_path, **given))["entryPoints"].values():
        assert "forwardedHeaders" not in entry
