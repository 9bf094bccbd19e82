"""A certificate with its key, as an operator hands them to us: read and checked before anything is begun."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from wodctl.errors import ConfigProblem


@dataclass(frozen=True)
class Certificate:
    """Certificates and key in one text (PEM), and until when they are good."""

    text: bytes
    until: datetime


def read(certificate: Path, key: Path, names: Iterable[str], now: datetime) -> Certificate:
    """The certificate of one file and the key of another.

    Raises ConfigProblem where a file cannot be read, key and certificate do not belong together, the certificate is
    not good at `now`, or does not have one of these names.
    """
    chain_text, key_text = _content(certificate, "WODTLSCERT"), _content(key, "WODTLSKEY")
    try:
        own = x509.load_pem_x509_certificates(chain_text)[0]
        public = own.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except ValueError:
        raise ConfigProblem(
            f"{certificate} (WODTLSCERT) has no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----.",
            hint="Of DER make PEM: `openssl x509 -inform der -in FILE -out FILE.pem`.",
        ) from None
    if _public(_key(key, key_text)) != public:
        raise ConfigProblem(
            f"The key {key} (WODTLSKEY) is not that of the first certificate in {certificate} (WODTLSCERT).",
            hint="The host's certificate comes first, then those of the authorities between.",
        )
    if now < own.not_valid_before_utc:
        raise ConfigProblem(
            f"{certificate} (WODTLSCERT) is not good before {own.not_valid_before_utc:%Y-%m-%d %H:%M} UTC.",
            hint="Is this host's clock right?",
        )
    if now >= own.not_valid_after_utc:
        raise ConfigProblem(
            f"{certificate} (WODTLSCERT) has expired: it was good until {own.not_valid_after_utc:%Y-%m-%d %H:%M} UTC.",
            hint="Renew it, then run `wodctl up` again.",
        )
    known = _names(own)
    for name in names:
        if not any(_matches(name, one) for one in known):
            raise ConfigProblem(
                f"{certificate} (WODTLSCERT) is not for {name}; it is for {', '.join(known) or 'no name'}.",
                hint="Set the name that participants use (WODBEFQDN, WODBEEXTFQDN), or have a certificate made for it.",
            )
    whole = chain_text.rstrip() + b"\n" + key_text.rstrip() + b"\n"
    return Certificate(whole, own.not_valid_after_utc.astimezone(timezone.utc))


def _content(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigProblem(
            f"{path} ({setting}) cannot be read: {error.strerror}.",
            hint="Give the path of a file that you may read.",
        ) from None


def _key(path: Path, text: bytes) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(text, password=None)
    except TypeError:
        raise ConfigProblem(
            f"The key {path} (WODTLSKEY) is sealed with a passphrase, which nobody could type at each start.",
            hint=f"`openssl pkey -in {path} -out FILE` writes it without one; keep that file to yourself.",
        ) from None
    except ValueError:
        raise ConfigProblem(
            f"{path} (WODTLSKEY) has no key in PEM, which begins with -----BEGIN PRIVATE KEY-----.",
            hint="Is it the certificate, or DER?",
        ) from None


def _public(key: PrivateKeyTypes) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _names(certificate: x509.Certificate) -> list[str]:
    """Names and addresses of the extension subjectAltName, the only ones that browsers look at."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [
        *found.get_values_for_type(x509.DNSName),
        *map(str, found.get_values_for_type(x509.IPAddress)),
    ]


def _matches(name: str, one: str) -> bool:
    """Whether a certificate for `one` speaks for `name`; a star stands for one label (RFC 6125)."""
    name, one = name.lower().rstrip("."), one.lower().rstrip(".")
    if name == one:
        return True
    return one.startswith("*.") and "." in name and name.split(".", 1)[1] == one[2:] and not _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
