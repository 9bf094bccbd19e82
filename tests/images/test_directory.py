"""Passwords of seats in a real LDAP directory, by the worker's own client in the worker's own image."""

import base64
import datetime
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conftest import ROOT, docker
from tests.images.test_database import wait_for
from wodctl.adapters.builder import Builder
from wodctl.adapters.configuration import load

NAME = "wodtestldap"
STATE = Path("/var/lib/wod-test-directory")
PASSWORD = "manager's secret"  # noqa: S105

CONFIGURATION = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCACertificateFile /etc/directory/ca.pem
TLSCertificateFile /etc/directory/server.pem
TLSCertificateKeyFile /etc/directory/server.key
TLSVerifyClient never
# Nothing is said in clear: neither passwords nor anything else.
security ssf=128
database mdb
suffix "dc=example,dc=org"
directory /tmp/entries
rootdn "cn=root,dc=example,dc=org"
access to attrs=userPassword
    by dn.exact="cn=keeper,dc=example,dc=org" write
    by anonymous auth
    by * none
access to * by * read
"""

ENTRIES = """dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
dc: example
o: Example

dn: cn=keeper,dc=example,dc=org
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: keeper
userPassword: {password}

dn: ou=People,dc=example,dc=org
objectClass: organizationalUnit
ou: People
"""

ENTRY = """
dn: uid=student{n},ou=People,dc=example,dc=org
objectClass: inetOrgPerson
uid: student{n}
cn: Student {n}
sn: {n}
userPassword: from-before
"""

SET = """
import sys
from pathlib import Path
from wodctl.adapters.directory import Directory
from wodctl.errors import WodError
host, port, base, bind, secret, authorities, seat = sys.argv[1:]
try:
    Directory(host, int(port), base, "student", bind, secret, Path(authorities)).set_password(
        int(seat), sys.stdin.readline().strip())
except WodError as error:
    print(type(error).__name__, error.message, error.hint, sep="|")
"""


def authority(name: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate authority of the test's own."""
    key = ec.generate_private_key(ec.SECP256R1())
    return certificate(name, key.public_key(), None, key, ca=True), key


def certificate(name, public, issuer, key, *, ca=False) -> x509.Certificate:
    """A certificate for `name`, by that issuer or by itself."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
        .add_extension(names, critical=False)
        # Without these three, Python 3.13 believes no certificate.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .add_extension(_usage(ca=ca), critical=True)
        .sign(key, hashes.SHA256())
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def pem(made: x509.Certificate) -> bytes:
    return made.public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True)
class Served:
    """A directory on a network of its own, and the worker's image to speak to it."""

    image: str
    name: str = NAME

    def set_password(self, seat: int, password: str, **changed: str) -> str:
        """What the worker's client says of it; nothing if it did as told."""
        words = {
            "host": "directory", "port": "389", "base": "example.org", "bind": "cn=keeper,dc=example,dc=org",
            "secret": PASSWORD, "authorities": "/certificates/ca.pem",
        } | changed  # fmt: skip
        done = subprocess.run(
            ["docker", "run", "--rm", "--interactive", f"--network={NAME}", f"--volume={STATE}:/certificates:ro",
             "--entrypoint=python", self.image, "-c", SET, *words.values(), str(seat)],
            input=password + "\n", capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def answers(self) -> bool:
        """Whether the directory speaks."""
        words = ("ldapsearch", "-x", "-ZZ", "-H", "ldap://directory", "-s", "base", "-b", "dc=example,dc=org")
        return self._ask(words, "") == 0

    def _ask(self, words: Sequence[str], text: str) -> int:
        authorities = "--env=LDAPTLS_CACERT=/etc/directory/ca.pem"
        asked = ["docker", "exec", "--interactive", authorities, self.name, *words]
        return subprocess.run(
            asked, input=text, capture_output=True, text=True, timeout=60, check=False
        ).returncode

    def opens(self, seat: int, password: str) -> bool:
        """Whether that password opens the seat's entry, asked as an appliance would."""
        words = ("ldapwhoami", "-x", "-ZZ", "-H", "ldap://directory", "-y", "/dev/stdin")
        entry = f"uid=student{seat},ou=People,dc=example,dc=org"
        code = self._ask((*words, "-D", entry), password)
        assert code in (0, 49)  # 49: invalid credentials
        return code == 0


def prepare(folder: Path) -> None:
    """Configuration, entries for ten seats, and a certificate for the name `directory`."""
    subprocess.run(["rm", "-rf", folder], check=True)
    folder.mkdir(parents=True)
    root, key = authority("Authority of the test")
    own = ec.generate_private_key(ec.SECP256R1())
    (folder / "ca.pem").write_bytes(pem(root))
    (folder / "other.pem").write_bytes(pem(authority("Somebody else")[0]))
    (folder / "server.pem").write_bytes(pem(certificate("directory", own.public_key(), root, key)))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.key").write_bytes(own.private_bytes(*form))
    (folder / "slapd.conf").write_text(CONFIGURATION)
    entries = ENTRIES.format(password=PASSWORD) + "".join(ENTRY.format(n=n) for n in range(1, 11))
    (folder / "entries.ldif").write_text(entries)


def images(state: Path) -> dict[str, str]:
    """The images of the directory and of the worker, built where they are missing."""
    builder = Builder(ROOT, state, load(ROOT, state, {}, {})[0])
    builder.build(["directory", "worker"])
    return {name: builder.tag(name) for name in ("directory", "worker")}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    built = images(STATE)
    prepare(STATE)
    docker("rm", "--force", NAME, check=False)
    docker("network", "rm", NAME, check=False)
    docker("network", "create", NAME)
    try:
        docker("run", "--detach", f"--name={NAME}", f"--network={NAME}", "--network-alias=directory",
               "--network-alias=another-name", f"--volume={STATE}:/etc/directory:ro", built["directory"])  # fmt: skip
        made = Served(built["worker"])
        wait_for(made.answers)
        yield made
    finally:
        docker("rm", "--force", NAME, check=False)
        docker("network", "rm", NAME, check=False)
        subprocess.run(["rm", "-rf", STATE], check=True)


@pytest.mark.parametrize("port", ["389", "636"])
def test_the_password_of_one_seat_is_changed(served: Served, port: str) -> None:
    """By StartTLS and by TLS from the start; the former one opens nothing any more, other seats keep theirs."""
    assert served.set_password(3, f"fresh-{port}", port=port) == ""
    assert served.opens(3, f"fresh-{port}")
    assert not served.opens(3, "from-before")
    assert served.opens(4, "from-before")


def test_the_directory_stores_no_password_in_clear(served: Served) -> None:
    """It hashes what it is told, as it hashes all others."""
    served.set_password(5, "never-in-clear")
    stored = docker("exec", NAME, "slapcat", "-f", "/etc/directory/slapd.conf", "-a", "(uid=student5)")
    assert "userPassword::" in stored
    value = base64.b64decode(stored.partition("userPassword:: ")[2].splitlines()[0])
    assert value.startswith(b"{SSHA}")


def test_a_seat_without_an_entry_is_named(served: Served) -> None:
    """With the whole name that was looked for."""
    said = served.set_password(42, "not-to-be")
    assert said.startswith("ActionFailed|")
    assert "has no entry uid=student42,ou=People,dc=example,dc=org" in said


@pytest.mark.parametrize(
    ("changed", "kind", "said"),
    [
        ({"authorities": "/certificates/other.pem"}, "Unavailable", "WODCABUNDLE"),
        ({"host": "another-name"}, "Unavailable", "WODCABUNDLE"),
        ({"port": "1389"}, "Unavailable", "does not answer"),
        ({"host": "nowhere.invalid"}, "Unavailable", "does not answer"),
        ({"secret": "wrong"}, "Unavailable", "secrets/worker/ldap-password"),
        ({"base": "dc=elsewhere"}, "ActionFailed", "refuses"),
        (
            {"bind": "uid=student7,ou=People,dc=example,dc=org", "secret": "from-before"},
            "ActionFailed",
            "refuses",
        ),
    ],
)
def test_what_is_wrong_is_named_and_nothing_changes(
    served: Served, changed: dict[str, str], kind: str, said: str
) -> None:
    """A server that we do not trust gets no password; what may pass is told apart from what will not."""
    answer = served.set_password(6, "not-to-be", **changed)
    assert answer.startswith(f"{kind}|The directory ldap")
    assert said in answer
    assert "not-to-be" not in answer and PASSWORD not in answer
    assert served.opens(6, "from-before")
