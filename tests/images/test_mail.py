"""The mail service and its intake: who is let in, what becomes of mails; nothing acknowledged is lost or doubled."""

import itertools
import json
import os
import smtplib
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable

import pytest

from tests.conftest import ROOT, docker
from wodctl.adapters.builder import Builder
from wodctl.adapters.configuration import load
from wodctl.adapters.state import DB, GATE, HUB, MAIL, PROXY, WORKER, StateDirectory

NAME = "wodtestmail"
INTAKE = f"{NAME}-intake"
DATABASE = f"{NAME}-db"
INTAKE_HEALTHY = "python3 -I -S /usr/local/lib/wod/intake_healthy.py"
CAPABILITIES = ("CHOWN", "SETGID", "SETUID")
# As each of these users, in all of our groups: the Unix sockets that let him connect, but for those of Postfix.
SOCKETS_FOR = """
import os, socket, sys
for uid in map(int, sys.argv[1:]):
    if not os.fork():
        os.setgroups([0, *range(1800, 1809)]), os.setgid(1808), os.setuid(uid)
        found = {"/run/intake/intake.sock", "/run/postgresql/.s.PGSQL.5432"}
        for folder, below, names in os.walk("/"):
            if folder in ("/proc", "/sys", "/var/spool/postfix", "/usr"):
                below.clear()
            found |= {os.path.join(folder, name) for name in names}
        for path in found:
            try:
                socket.socket(socket.AF_UNIX).connect(path)
                print(uid, path, flush=True)
            except OSError:
                pass
        os._exit(0)
    os.wait()
"""
ACCEPT_MAIL = """
CREATE SCHEMA wod;
CREATE TABLE wod.filed (queue_id text UNIQUE, sender text, client text, action text, first int, last int,
                        customer bigint, workshop text, rejected text, raw bytea);
CREATE FUNCTION wod.accept_mail(text, text, text, text, int, int, bigint, text, text, bytea) RETURNS bigint
LANGUAGE sql SECURITY DEFINER AS $$
    INSERT INTO wod.filed VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9,
                                  CASE WHEN $9 IS NOT NULL THEN $10 END) ON CONFLICT DO NOTHING;
    SELECT 1::bigint;
$$;
GRANT USAGE ON SCHEMA wod TO mail;
"""
customers = itertools.count(10_000)


class Mail:
    """The mail service beside a database that only knows how to file mails."""

    @property
    def address(self) -> tuple[str, int]:
        """Where it answers, without the engine's port forwarding, which would hide how a client goes away."""
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return docker("inspect", "--format", form, NAME).strip(), 10025

    def smtp(self) -> smtplib.SMTP:
        return smtplib.SMTP(*self.address, timeout=60)

    def rows(self) -> list[dict]:
        """All that is filed."""
        query = "SELECT coalesce(json_agg(filed), '[]') FROM wod.filed"
        return json.loads(self.psql("--tuples-only", "--no-align", "--command", query))

    def psql(self, *words: str) -> str:
        """Run psql in the database's container, as the worker's user."""
        return docker(
            *(
                "exec",
                "--user=1804:1808",
                DATABASE,
                "psql",
                "--no-psqlrc",
                "--quiet",
                "--set=ON_ERROR_STOP=1",
            ),
            *("--host=/run/postgresql", "--username=wod", "--dbname=wod", *words),
        )

    def filed(self, ids: Iterable[int]) -> Counter[int]:
        """How many rows there are for each of these customers."""
        return Counter(row["customer"] for row in self.rows() if row["customer"] in ids)

    def wait_until_filed(self, ids: Collection[int], *, timeout: float = 120) -> None:
        """Return when each of these customers has a row, and has exactly one."""
        wait(lambda: len(self.filed(ids)) == len(ids), timeout, lambda: f"{set(ids) - set(self.filed(ids))}")
        assert set(self.filed(ids).values()) == {1}

    def row(self, queue_id: str) -> dict:
        """The row that a mail became, by the queue id that acknowledged it."""
        found: list[dict] = []

        def come() -> bool:
            found[:] = [row for row in self.rows() if row["queue_id"] == queue_id]
            return bool(found)

        wait(come, 30, lambda: f"{queue_id} is not filed: {docker('logs', '--tail=20', NAME)}")
        return found[0]

    def queue(self) -> str:
        """Postfix's own list of the mails that it keeps."""
        return docker("exec", NAME, "postqueue", "-p")


def wait(come: Callable[[], bool], timeout: float, explain: Callable[[], str]) -> None:
    end = time.monotonic() + timeout
    while not come():
        assert time.monotonic() < end, explain()
        time.sleep(0.2)


def acknowledged(smtp: smtplib.SMTP, message: bytes, *, sender: str = "wodadmin@localhost") -> str:
    """Send a mail by the book; returns its queue id once the service took it."""
    assert smtp.docmd("MAIL FROM:", f"<{sender}>")[0] == 250
    assert smtp.docmd("RCPT TO:", "<wodadmin@workshops.example.net>")[0] == 250
    code, answer = smtp.data(message)
    assert code == 250, answer
    return answer.decode().rsplit(" ", 1)[1]


@pytest.fixture(scope="module")
def mail(tmp_path_factory):
    """The two services as the stack runs them, on a network of their own, with the database beside them."""
    state = tmp_path_factory.mktemp("state")
    for folder in ("fail2ban", "postfix"):
        (state / "rendered" / folder).mkdir(parents=True)
    settings, _ = load(ROOT, state, {"WODPOSTNETWORKS": "192.0.2.0/24"}, {})
    StateDirectory(state, ROOT).render(settings)
    (state / "run" / "intake").mkdir(parents=True, mode=0o700)
    os.chown(state / "run" / "intake", MAIL, MAIL)
    builder = Builder(ROOT, state, settings)
    builder.build([name for name in ("db", "mail") if name in builder.missing()])
    made = Mail()
    remove()
    docker("network", "create", NAME)
    try:
        docker(
            *("run", "--detach", f"--name={DATABASE}", "--network=none"),
            *(f"--volume={NAME}-run:/run/postgresql", "--group-add=1808", builder.tag("db")),
        )
        wait_until_healthy(DATABASE)
        made.psql("--command", ACCEPT_MAIL)
        docker(
            *("run", "--detach", f"--name={INTAKE}", "--network=none", "--read-only", "--cap-drop=ALL"),
            *(
                "--security-opt=no-new-privileges",
                "--user=1802:1802",
                "--group-add=1808",
                "--entrypoint=tini",
            ),
            *(f"--health-cmd={INTAKE_HEALTHY}", "--health-interval=1s"),
            *(f"--volume={NAME}-run:/run/postgresql", f"--volume={state}/run/intake:/run/intake"),
            f"--volume={state}/rendered/intake.json:/etc/wod/settings.json:ro",
            *(builder.tag("mail"), "--", "python3", "-I", "-m", "wodctl.intake"),
        )
        docker(
            *("run", "--detach", f"--name={NAME}", f"--network={NAME}", "--read-only", "--cap-drop=ALL"),
            *(f"--cap-add={capability}" for capability in CAPABILITIES),
            *("--security-opt=no-new-privileges", f"--volume={NAME}-queue:/var/spool/postfix"),
            *(f"--volume={state}/run/intake:/run/intake:ro", "--tmpfs=/tmp:mode=1777,size=16m"),
            "--tmpfs=/var/log/wod:mode=755,size=4m",
            f"--volume={state}/rendered/postfix:/etc/wod/postfix:ro",
            builder.tag("mail"),
        )
        wait_until_healthy(NAME)
        wait_until_healthy(INTAKE)
        yield made
    finally:
        remove()


def remove() -> None:
    docker("rm", "--force", "--volumes", NAME, INTAKE, DATABASE, check=False)
    docker("volume", "rm", f"{NAME}-run", f"{NAME}-queue", check=False)
    docker("network", "rm", NAME, check=False)


def wait_until_healthy(name: str) -> None:
    health = ("inspect", "--format", "{{.State.Health.Status}}", name)
    wait(lambda: docker(*health).strip() == "healthy", 60, lambda: docker("logs", name))


def as_the_portal_does(address: tuple[str, int], customer: int, *, reset: bool) -> None:
    """Existing portals' bytes: one write, no brackets, no blank line, gone at the first answer."""
    dialogue = (
        "HELO portal.example.net\nMAIL FROM: wodadmin@localhost\nRCPT TO: wodadmin@workshops.example.net\n"
        f"DATA\nSubject: CREATE 3 {customer} someone@example.net\nWKSHP-Welcome101\n.\n"
    )
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(dialogue.encode())
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert connection.recv(1) == b"2"


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_every_mail_of_an_existing_portal_becomes_an_order(mail, reset):
    """Fifty of the portal's hasty dialogues give fifty rows, however it drops the connection."""
    ids = list(itertools.islice(customers, 50))
    address = mail.address
    for customer in ids:
        as_the_portal_does(address, customer, reset=reset)
    mail.wait_until_filed(ids)
    columns = ("action", "first", "last", "workshop", "sender", "rejected")
    found = {tuple(row[column] for column in columns) for row in mail.rows() if row["customer"] in ids}
    assert found == {("CREATE", 3, 3, "WKSHP-Welcome101", "wodadmin@localhost", None)}


def test_a_mail_by_the_book_becomes_an_order(mail):
    """A range, sent with CRLF and a blank line, arrives as it was meant, and says where it came from."""
    with mail.smtp() as smtp:
        smtp.ehlo("portal.example.net")
        queue_id = acknowledged(
            smtp, b"From: x@example.net\r\nSubject: RESET 1,20 33\r\n\r\nCHLG-Welcome101\r\n"
        )
    row = mail.row(queue_id)
    assert (row["action"], row["first"], row["last"], row["customer"]) == ("RESET", 1, 20, 33)
    assert (row["workshop"], row["rejected"]) == ("CHLG-Welcome101", None)
    assert row["client"].count(".") == 3


def test_the_test_tool_is_understood_without_a_greeting(mail):
    """The original's netcat form, without HELO but with the blank line, becomes an order."""
    customer = next(customers)
    dialogue = (
        "MAIL FROM: wodadmin@localhost\nRCPT TO: wodadmin@workshops.example.net\nDATA\n"
        f"Subject: PURGE 7 {customer}\n\nWKSHP-Welcome101\n.\nQUIT\n"
    )
    with socket.create_connection(mail.address, timeout=30) as connection:
        connection.sendall(dialogue.encode())
        answers = b"".join(iter(lambda: connection.recv(4096), b""))
    assert b"queued as" in answers
    assert answers.rstrip().splitlines()[-1].startswith(b"221")
    mail.wait_until_filed([customer])


@pytest.mark.parametrize(
    ("subject", "body", "words"),
    [
        (b"PURGE 1+a[$(cmd)] 0", b"", "'1+a[$(cmd)]' is no seat"),
        (b"CREATE 0 7", b"WKSHP-Welcome101", "'0' is no seat"),
        (b"CREATE 3 7", b"../../etc", "'../../etc' is no name of a workshop"),
        (b"CREATE 3 7", b"", "CREATE without a workshop"),
        (b"FORMAT 3 7", b"WKSHP-Welcome101", "Unknown action 'FORMAT'"),
        (b"PURGE [object Promise] 12", b"WKSHP-Welcome101", "'[object' is no seat"),
        (b"CREATE 3 7 `id`;$(id)", b"WKSHP-$(id)", "'WKSHP-$(id)' is no name"),
        (bytes(range(128, 256)), bytes(range(128, 256)), "Unknown action '\\x80"),
    ],
    ids=range(8),
)
def test_what_is_no_order_is_filed_with_the_reason(mail, subject, body, words):
    """A mail that cannot be obeyed is taken, and its row says why, with the mail beside it."""
    with mail.smtp() as smtp:
        smtp.ehlo("portal.example.net")
        row = mail.row(acknowledged(smtp, b"Subject: " + subject + b"\r\n\r\n" + body + b"\r\n"))
    assert words in row["rejected"]
    assert row["action"] is None
    assert subject in bytes.fromhex(row["raw"].removeprefix("\\x"))


@pytest.mark.parametrize("sender", ["someone@example.net", "", '"$(id)`id`;\'"@localhost'])
def test_a_wrong_sender_is_filed_as_rejected(mail, sender):
    """Only WODSENDER is obeyed; nobody else is, and nobody is sent a bounce."""
    with mail.smtp() as smtp:
        smtp.ehlo("portal.example.net")
        row = mail.row(acknowledged(smtp, b"Subject: CREATE 3 7\r\n\r\nWKSHP-Welcome101\r\n", sender=sender))
    assert "may not order anything" in row["rejected"]
    assert row["workshop"] is None


def test_the_sender_is_the_same_in_upper_case(mail):
    """Addresses that differ in nothing but case are one sender."""
    customer = next(customers)
    with mail.smtp() as smtp:
        smtp.ehlo("portal.example.net")
        message = f"Subject: PURGE 3 {customer}\r\n\r\n".encode()
        assert mail.row(acknowledged(smtp, message, sender="WodAdmin@LOCALHOST"))["customer"] == customer


def test_fifty_megabytes_are_refused(mail):
    """A mail above the limit gets 552 and no row; the next one is served."""
    before = len(mail.rows())
    with mail.smtp() as smtp:
        smtp.helo("portal.example.net")
        smtp.mail("wodadmin@localhost")
        smtp.rcpt("wodadmin@workshops.example.net")
        assert smtp.data(b"Subject: CREATE 3 7\r\n\r\n" + (b"x" * 78 + b"\r\n") * 655_360)[0] == 552
        assert smtp.noop()[0] == 250
    assert len(mail.rows()) == before


@pytest.mark.parametrize(
    "recipient",
    [
        "root@workshops.example.net",
        "wod-mail@mail.wod.internal",
        "someone@example.net",
        "wodadmin+x@example.net",
        "someone%example.net@workshops.example.net",
        "example.net!someone@workshops.example.net",
    ],
)
def test_there_is_mail_for_wodadmin_only(mail, recipient):
    """No other local part is taken, whatever the domain, and nothing is relayed."""
    with mail.smtp() as smtp:
        smtp.ehlo("portal.example.net")
        smtp.mail("wodadmin@localhost")
        assert 500 <= smtp.docmd("RCPT TO:", f"<{recipient}>")[0] < 560


@pytest.mark.parametrize("host", ["localhost", "backend", "BACK_end.example.net", "127.0.0.1", "[192.0.2.1]"])
def test_wodadmin_has_mail_under_every_name_of_the_host(mail, host):
    """Portals write the host's name or address as they know it; here it does not matter."""
    with mail.smtp() as smtp:
        smtp.ehlo("portal.example.net")
        smtp.mail("wodadmin@localhost")
        assert smtp.docmd("RCPT TO:", f"WODadmin@{host}")[0] == 250


def test_nothing_but_taking_mails_is_offered(mail):
    """VRFY, ETRN, TURN, AUTH, TLS, BDAT and delivery reports are off."""
    with mail.smtp() as smtp:
        smtp.ehlo("portal.example.net")
        assert not {"vrfy", "etrn", "dsn", "auth", "starttls", "chunking", "smtputf8"} & set(
            smtp.esmtp_features
        )
        for command in ("VRFY wodadmin", "ETRN example.net", "TURN", "AUTH PLAIN", "STARTTLS"):
            assert 500 <= smtp.docmd(command)[0] < 560, command
        assert smtp.docmd("MAIL FROM:<wodadmin@localhost> RET=FULL")[0] >= 500


def test_a_client_from_elsewhere_is_refused_at_once(mail):
    """Who is neither this host nor in WODPOSTNETWORKS hears 554 instead of a greeting, and can do nothing."""
    host, port = mail.address
    says = "HELO x\\nMAIL FROM:<wodadmin@localhost>\\nQUIT\\n"
    script = f"exec 3<>/dev/tcp/{host}/{port}; printf '{says}' >&3; cat <&3"
    image = docker("inspect", "--format", "{{.Config.Image}}", NAME).strip()
    answers = docker("run", "--rm", f"--network={NAME}", image, "bash", "-c", script).splitlines()
    assert answers[0].startswith("554 ")
    assert [answer[:3] for answer in answers[1:]] == ["503", "503", "221"]


def test_it_listens_on_one_port(mail):
    """10025 is the only port that is open, over IPv4 and IPv6."""
    tables = docker("exec", NAME, "cat", "/proc/net/tcp", "/proc/net/tcp6", "/proc/net/udp", "/proc/net/udp6")
    rows = [line.split() for line in tables.splitlines() if ":" in line.split()[0]]
    # The engine's own resolver lives at 127.0.0.11 (0B00007F) in each container.
    listening = {
        row[1].split(":")[1] for row in rows if row[3] in ("0A", "07") and not row[1].startswith("0B00007F")
    }
    assert listening == {f"{10025:04X}"}


def test_root_in_the_mail_service_reaches_the_intake_and_nothing_else(mail):
    """Whoever root becomes there, in the database's group too, there is one socket for one user: the intake's."""
    uids = (0, 1000, DB, HUB, MAIL, PROXY, WORKER, GATE, 1806, 65534)
    found = docker("exec", NAME, "python3", "-I", "-c", SOCKETS_FOR, *map(str, uids))
    assert found.splitlines() == [f"{MAIL} /run/intake/intake.sock"]
    mounts = docker("inspect", "--format", "{{range .Mounts}}{{.Destination}} {{end}}", NAME).split()
    assert set(mounts) == {"/var/spool/postfix", "/run/intake", "/etc/wod/postfix"}


@pytest.mark.parametrize(
    "sent",
    ["b''", "b'x'", "bytes(8)", "b'x' * 8", "b'x' * 200_000", "bytes([0, 1, 0, 1, 0, 0, 0, 5]) + b'ab1234'"],
)
def test_garbage_is_answered_and_does_no_harm(mail, sent):
    """Nonsense, and a mail that ends too early, become no row; the next mail is filed."""
    before = len(mail.rows())
    says = "import socket as s; c = s.socket(s.AF_UNIX); c.connect('/run/intake/intake.sock')\n"
    says += f"try: c.sendall({sent}); c.shutdown(s.SHUT_WR)\nexcept OSError: pass\nprint(c.recv(999))"
    for _ in range(8):
        docker("exec", f"--user={MAIL}", NAME, "python3", "-I", "-c", says, check=False)
    assert len(mail.rows()) == before
    with mail.smtp() as smtp:
        smtp.ehlo("portal.example.net")
        assert mail.row(acknowledged(smtp, b"Subject: PURGE 3 7\r\n\r\n"))["customer"] == 7


def test_silent_connections_hold_nobody_up_for_long(mail):
    """Whoever connects and says nothing is dismissed after ten seconds, and mails are filed then."""
    hold = "import socket as s, time; c = [s.socket(s.AF_UNIX) for _ in range(8)]\n"
    hold += "[x.connect('/run/intake/intake.sock') for x in c]; time.sleep(400)"
    docker("exec", "--detach", f"--user={MAIL}", NAME, "python3", "-I", "-c", hold)
    customer = next(customers)
    with mail.smtp() as smtp:
        smtp.ehlo("portal.example.net")
        acknowledged(smtp, f"Subject: PURGE 3 {customer}\r\n\r\n".encode())
    mail.wait_until_filed([customer], timeout=120)


def test_a_burst_of_two_hundred_is_taken_and_filed(mail):
    """Two hundred connections at once are all served, and each mail becomes one row."""
    ids = list(itertools.islice(customers, 200))
    address = mail.address
    senders = [threading.Thread(target=as_the_portal_does, args=(address, customer), kwargs={"reset": False})
               for customer in ids]  # fmt: skip
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    mail.wait_until_filed(ids)


def test_while_the_database_is_away_mails_are_kept_and_then_filed_once(mail):
    """Without a database mails are acknowledged and kept, over a restart too, and filed when it is back."""
    ids = list(itertools.islice(customers, 10))
    docker("stop", DATABASE)
    try:
        with mail.smtp() as smtp:
            smtp.ehlo("portal.example.net")
            for customer in ids:
                acknowledged(smtp, f"Subject: CREATE 3 {customer}\r\n\r\nWKSHP-Welcome101\r\n".encode())
        wait(lambda: mail.queue().count("temporary failure") == len(ids), 30, mail.queue)
        docker("restart", "--time=5", NAME)
        wait_until_healthy(NAME)
    finally:
        docker("start", DATABASE)
        wait_until_healthy(DATABASE)
    mail.wait_until_filed(ids)
    wait(lambda: "Mail queue is empty" in mail.queue(), 30, mail.queue)


@pytest.mark.parametrize("service", [NAME, INTAKE], ids=["mail", "intake"])
def test_a_service_killed_in_a_burst_loses_and_doubles_nothing(mail, service):
    """SIGKILL of one of the two while mails come in: every acknowledged mail ends in exactly one row."""
    taken: list[int] = []
    enough = threading.Event()

    def send_until_it_breaks() -> None:
        try:
            with mail.smtp() as smtp:
                smtp.ehlo("portal.example.net")
                while not enough.is_set():
                    customer = next(customers)
                    acknowledged(smtp, f"Subject: CREATE 3 {customer}\r\n\r\nWKSHP-Welcome101\r\n".encode())
                    taken.append(customer)
                    time.sleep(0.02)
        except (OSError, smtplib.SMTPException):
            return

    for _ in range(3):
        before = len(taken)
        enough.clear()
        senders = [threading.Thread(target=send_until_it_breaks) for _ in range(3)]
        for sender in senders:
            sender.start()
        wait(lambda before=before: len(taken) >= before + 40, 60, lambda: f"{len(taken)} taken")
        docker("kill", "--signal=KILL", service)
        time.sleep(0.5)
        enough.set()
        for sender in senders:
            sender.join()
        docker("start", service)
        wait_until_healthy(service)
    mail.wait_until_filed(taken, timeout=300)
    wait(lambda: "Mail queue is empty" in mail.queue(), 60, mail.queue)
    assert set(mail.filed(range(10_000, next(customers))).values()) == {1}


def test_nobody_is_ever_sent_a_bounce(mail):
    """After all of that, Postfix has neither made nor sent a mail of its own."""
    logs = docker("logs", NAME)
    assert "status=sent" in logs
    assert "status=bounced" not in logs
    assert "non-delivery notification" not in logs
