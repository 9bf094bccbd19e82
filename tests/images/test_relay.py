"""Letters by the site's relay, a real mail server with TLS and a login: what it cannot take stays owed, and is seen."""

import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.conftest import docker, free_port
from tests.images.registration_site import RegistrationSite, registration_site, wait_for
from tests.images.test_directory import authority, certificate, pem

RELAY, USER, PASSWORD = "relay.example.net", "workshops", "the relay's password"
WELCOME = "WoD Developer Workshops-on-Demand"


@dataclass
class Relay:
    """What it took over, from whom, and whether anything was said in clear."""

    folder: Path
    port: int
    taken: list[str] = field(default_factory=list)
    logins: list[tuple[str, bool]] = field(default_factory=list)
    refused: str = ""
    kind: str = ""
    controller: Controller | None = None

    async def handle_RCPT(
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if self.refused:
            return self.refused
        envelope.rcpt_tos.append(address)
        return "250 fine"

    async def handle_DATA(self, _server: Any, session: Any, envelope: Any) -> str:
        assert session.authenticated
        self.taken.append(envelope.content.decode())
        return "250 taken"

    def _login(self, _server: Any, session: Any, _envelope: Any, _mechanism: str, said: Any) -> AuthResult:
        assert isinstance(said, LoginPassword)
        right = (said.login, said.password) == (USER.encode(), PASSWORD.encode())
        self.logins.append((said.login.decode(), self.kind == "tls" or session.ssl is not None))
        return AuthResult(success=right, handled=False)

    def start(self, name: str = "relay", *, kind: str = "starttls") -> None:
        """Serve with the certificate of that name: after STARTTLS, with TLS from the first byte, or without any."""
        self.kind = kind
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        means: dict[str, Any] = {"tls_context": context, "require_starttls": True}
        if kind == "tls":
            means = {"ssl_context": context, "auth_require_tls": False}
        elif kind == "none":
            means = {"auth_require_tls": False}
        self.controller = Controller(
            self, hostname="0.0.0.0", port=self.port, ready_timeout=20,
            authenticator=self._login, auth_required=True, **means,
        )  # fmt: skip
        self.controller.start()

    def stop(self) -> None:
        """No connection is taken any more."""
        if self.controller:
            self.controller.stop()
            self.controller = None


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """With certificates of the authority that the site trusts, of one that nobody does, and for another name."""
    folder = tmp_path_factory.mktemp("relay")
    ours, key = authority("test authority")
    strange, strange_key = authority("strange authority")
    for name, subject, issuer, issuer_key in (
        ("relay", RELAY, ours, key),
        ("strange", RELAY, strange, strange_key),
        ("other", "other.example.net", ours, key),
    ):
        own = ec.generate_private_key(ec.SECP256R1())
        (folder / f"{name}.pem").write_bytes(pem(certificate(subject, own.public_key(), issuer, issuer_key)))
        (folder / f"{name}.key").write_bytes(
            own.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    (folder / "ca.pem").write_bytes(pem(ours))
    made = Relay(folder, free_port())
    yield made
    made.stop()


@pytest.fixture(scope="module")
def running(relay: Relay) -> Iterator[RegistrationSite]:
    with registration_site(
        "wodtestrelay", Path("/var/lib/wod-test-relay"), authorities=relay.folder / "ca.pem",
        WODSMTPPORT=str(relay.port), WODSMTPTLS="starttls", WODSMTPUSER=USER,
    ) as site:  # fmt: skip
        yield site


@pytest.fixture
def site(running: RegistrationSite, relay: Relay) -> Iterator[RegistrationSite]:
    """A scheduler at work, a relay that is away, and nobody registered."""
    running.fresh()
    relay.taken.clear()
    relay.logins.clear()
    relay.refused = ""
    set_password(running, PASSWORD)
    running.start_scheduler()
    yield running
    running.kill_scheduler()
    relay.stop()


def set_password(site: RegistrationSite, text: str) -> None:
    """As the operator does: one line in the file."""
    (site.state / "secrets/api-db/smtp-password").write_text(text + "\n")


def owed(site: RegistrationSite) -> dict[str, Any]:
    """The one letter that was written, if it is yet."""
    found = site.sql("SELECT row_to_json(outbox) FROM outbox WHERE kind = 'letter'")
    assert len(found) <= 1
    return json.loads(found[0]) if found else {"state": "", "attempts": 0, "problem": None}


def sent_once(site: RegistrationSite, relay: Relay) -> None:
    """It comes with the next attempt, is noted as sent, and does not come again."""
    site.sql(
        "UPDATE outbox SET due = now() WHERE state = 'waiting'; NOTIFY wod_api"
    )  # we do not wait for its pause
    wait_for(lambda: owed(site)["state"] == "sent")
    assert owed(site)["problem"] is None
    site.restart_scheduler()
    wait_for(lambda: docker("logs", f"{site.name}-scheduler").count("at work") >= 2)
    assert [text.count(f"Subject: {WELCOME}") for text in relay.taken] == [1]
    assert owed(site)["message_id"] in relay.taken[0]


def refuses(site: RegistrationSite, words: str) -> None:
    """The letter stays owed, tried again, and its problem is shown."""
    site.register("ada@example.net")
    wait_for(lambda: owed(site)["attempts"] >= 2 and owed(site)["problem"])
    (seen,) = [one for one in site.ask("mails") if one["kind"] == "letter"]  # as `wodctl mail list` shows it
    assert seen["state"] == "waiting" and words in seen["problem"], seen
    log = docker("logs", f"{site.name}-scheduler")
    assert words in log
    assert PASSWORD not in json.dumps(seen) + log + docker("inspect", f"{site.name}-scheduler")


def test_a_letter_goes_encrypted_and_after_a_login(site: RegistrationSite, relay: Relay) -> None:
    """STARTTLS first, and the password only then."""
    relay.start()
    site.register("ada@example.net")
    sent_once(site, relay)
    assert relay.logins == [(USER, True)]


@pytest.mark.parametrize(("name", "words"), [("strange", "certificate verify failed"), ("other", RELAY)])
def test_to_a_relay_with_a_wrong_certificate_nothing_is_said(
    site: RegistrationSite, relay: Relay, name: str, words: str
) -> None:
    """Of an authority that nobody knows, or for another name: owed until it is right."""
    relay.start(name)
    refuses(site, words)
    assert (relay.taken, relay.logins) == ([], [])
    relay.stop()
    relay.start()
    sent_once(site, relay)


def test_a_wrong_password_is_shown_and_may_be_corrected(site: RegistrationSite, relay: Relay) -> None:
    """The next attempt reads the file again."""
    set_password(site, "another")
    relay.start()
    refuses(site, "535")
    assert relay.taken == []
    set_password(site, PASSWORD)
    sent_once(site, relay)


def test_a_relay_that_is_away_is_waited_for(site: RegistrationSite, relay: Relay) -> None:
    """Orders to backends meanwhile go their way."""
    refuses(site, "Connection refused")
    wait_for(lambda: site.receiver.of("CREATE"))
    relay.start()
    sent_once(site, relay)


def test_a_relay_that_has_lost_its_encryption_is_told_nothing(site: RegistrationSite, relay: Relay) -> None:
    """Whoever sits between takes STARTTLS out of its answer; neither password nor letter go in clear."""
    relay.start(kind="none")
    refuses(site, "STARTTLS")
    assert (relay.taken, relay.logins) == ([], [])


def test_a_letter_that_the_relay_will_never_take_is_given_up(site: RegistrationSite, relay: Relay) -> None:
    """550 is the end of it, 450 is not; what was given up keeps no password."""
    relay.refused = "450 4.2.1 later"
    relay.start()
    refuses(site, "450 4.2.1 later")
    relay.refused = "550 5.1.1 no such user"
    wait_for(lambda: owed(site)["state"] == "failed")
    assert owed(site)["problem"] == "550 5.1.1 no such user"
    assert site.sql("SELECT count(*) FROM outbox WHERE sealed IS NOT NULL") == ["0"]


def test_tls_from_the_first_byte(site: RegistrationSite, relay: Relay) -> None:
    """WODSMTPTLS: tls, as on port 465."""
    rendered = site.state / "rendered/api-db.json"
    before = rendered.read_text()
    try:
        rendered.write_text(json.dumps(json.loads(before) | {"WODSMTPTLS": "tls"}))
        site.kill_scheduler()
        site.start_scheduler()
        relay.start("other", kind="tls")
        refuses(site, RELAY)
        relay.stop()
        relay.start(kind="tls")
        sent_once(site, relay)
        assert relay.logins == [(USER, True)]
    finally:
        rendered.write_text(before)
