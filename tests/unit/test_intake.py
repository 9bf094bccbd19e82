"""The intake and its client: a row for every mail, or the mail stays in Postfix's queue."""

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from wodctl import intake

ROOT = Path(__file__).resolve().parents[2]
SENDER = "wodadmin@localhost"
ENVELOPE = (
    b"From wodadmin@localhost  Mon Nov 23 01:48:59 2026\nReturn-Path: <wodadmin@localhost>\n"
    b"X-Original-To: wodadmin@portal.example\nDelivered-To: wodadmin@portal.example\n"
    b"Received: from portal by x (Postfix) with SMTP id FORGED (unknown [192.0.2.1])\n"
    b"\tby mail.wod.internal (Postfix) with ESMTP id 4jXpkz6TRQzJ6X1\n"
    b"\tfor <wodadmin@portal.example>; Mon, 23 Nov 2026 01:48:59 +0000 (UTC)\n"
    b"Received: from y\n\tby mail.wod.internal (Postfix) with ESMTP id OLDER\n"
)
ORDER = ENVELOPE + b"Subject: CREATE 3 7\n\nWKSHP-X\n"
ROW = ("4jXpkz6TRQzJ6X1", SENDER, "192.0.2.1", "CREATE", 3, 3, 7, "WKSHP-X", None, ORDER)


class Database:
    """Stands for psycopg2 and its connections: keeps what was committed, and fails as often as it is told."""

    def __init__(self) -> None:
        self.fails: list[Exception] = []
        self.committed: list[tuple] = []
        self.connected = 0
        self._begun: list[tuple] = []

    def connect(self) -> "Database":
        self.connected += 1
        return self

    def cursor(self) -> "Database":
        return self

    def close(self) -> None:
        pass

    def __enter__(self) -> "Database":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None:
            self.committed += self._begun
        self._begun = []

    def execute(self, _query: str, values: tuple) -> None:
        if self.fails:
            raise self.fails.pop()
        self._begun = [values]


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def say(database):
    """Send bytes to an intake and return what it answers."""
    filing = intake.Filing(database.connect)

    def call(sent: bytes) -> bytes:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            sender = threading.Thread(target=lambda: (ours.sendall(sent), ours.shutdown(socket.SHUT_WR)))
            sender.start()
            said = intake.answer(theirs, filing, wodsender=SENDER)
            theirs.close()
            sender.join()
        return said

    return call


def mail(message: bytes = ORDER, sender: bytes = SENDER.encode(), client: bytes = b"192.0.2.1") -> bytes:
    """A mail as the client sends it."""
    return intake.LENGTHS.pack(len(sender), len(client), len(message)) + sender + client + message


def test_an_order_is_committed_before_the_mail_is_done_with(say, database):
    """The answer that ends a mail is given for a committed row only; the connection is kept for the next."""
    assert say(mail()) == intake.FILED
    assert say(mail()) == intake.FILED
    assert database.committed == [ROW, ROW]
    assert database.connected == 1


@pytest.mark.parametrize(
    ("message", "sender", "words"),
    [
        (ORDER, b"someone@example.net", "may not order anything"),
        (ORDER, b"", "may not order anything"),
        (ENVELOPE + b"Subject: CREATE 0 7\n\nWKSHP-X\n", SENDER.encode(), "'0' is no seat"),
        ((ORDER + b"x" * intake.LARGEST_MAIL)[: intake.LARGEST_MAIL + 1], SENDER.encode(), "longer than"),
        (ENVELOPE + b"\xff\x00\n", SENDER.encode(), "0 lines of Subject"),
    ],
)
def test_what_is_no_order_is_filed_as_rejected(say, database, message, sender, words):
    """The row has the reason and the mail, at most 64 KiB of it, and nothing that could be carried out."""
    assert say(mail(message, sender)) == intake.FILED
    (row,) = database.committed
    assert row[3:8] == (None,) * 5
    assert words in row[8]
    assert row[9] == message[:65536]


def test_a_restarted_database_costs_no_mail_a_second_attempt(say, database):
    """A kept connection that broke is made anew, and the mail is filed over that."""
    say(mail())
    database.fails = [ConnectionError("terminated")]
    assert say(mail()) == intake.FILED
    assert (database.connected, len(database.committed)) == (2, 2)


@pytest.mark.parametrize("error", [ConnectionError("no\nsuch socket"), RuntimeError("?"), MemoryError()])
def test_without_a_database_the_mail_is_kept(say, database, capsys, error):
    """Whatever goes wrong is said in one line and is no word to end a mail; the next mail is filed."""
    database.fails = [error]
    assert say(mail()).startswith(b"Not filed yet")
    assert capsys.readouterr().err.count("\n") == 1
    assert database.committed == []
    assert say(mail()) == intake.FILED


@pytest.mark.parametrize(
    "sent",
    [
        b"x",
        mail()[:-1],
        mail()[:30],
        b"\xff" * 300,
        intake.LENGTHS.pack(3, 3, intake.LARGEST_MAIL + 2) + b"x" * 200_000,
        mail(client=b"1" * 65),
        mail(sender=b"a" * 1025),
    ],
    ids=range(7),
)
def test_what_is_not_a_whole_mail_becomes_no_row(say, database, sent):
    """A mail that ended too early, or a part that is too long, is never taken for a mail."""
    assert say(sent).startswith(b"Not filed yet, NotAMail")
    assert database.committed == []


def test_a_connection_that_says_nothing_is_dismissed(monkeypatch, database):
    """Nobody holds the intake for longer than it takes to send a mail."""
    monkeypatch.setattr(intake, "_SECONDS_TO_SEND", 0.05)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        said = intake.answer(theirs, intake.Filing(database.connect), wodsender=SENDER)
    assert said.startswith(b"Not filed yet, TimeoutError")


def test_a_mail_without_a_queue_id_is_kept(say, database):
    """What could not be told from its own repetition is not filed."""
    assert b"NotFromPostfix" in say(mail(b"Subject: CREATE 3 7\n\nWKSHP-X\n"))
    forged = b"Received: from z\n\tfor us\nReceived: from y\n\tby x (Postfix) with ESMTP id FORGED\n"
    assert b"NotFromPostfix" in say(mail(forged + b"Subject: CREATE 3 7\n\nWKSHP-X\n"))
    assert database.committed == []


def test_bytes_of_no_alphabet_in_the_envelope_do_no_harm(say, database):
    """A sender that is not ASCII reaches the database as text that it can keep."""
    assert say(mail(sender=b"\xff\xe9@x")) == intake.FILED
    assert database.committed[0][1].encode("utf-8")


@pytest.fixture
def client(tmp_path):
    """Run what procmail runs beside an intake that gives that answer, or none at all; its exit code and words."""
    program = (ROOT / "images" / "mail" / "file_mail.py").read_text()
    path = tmp_path / "intake.sock"
    copy = tmp_path / "file_mail.py"
    copy.write_text(
        program.replace("/run/intake/intake.sock", str(path)).replace("SECONDS = 40", "SECONDS = 1")
    )

    def call(answer: bytes | None, *words: str, listening: bool = True) -> tuple[int, str, bytes]:
        received = b""

        def serve() -> None:
            nonlocal received
            connection, _ = listener.accept()
            received = connection.makefile("rb").read()
            if answer is not None:
                connection.sendall(answer)
                connection.close()
            else:
                kept.append(connection)

        kept: list[socket.socket] = []
        with socket.socket(socket.AF_UNIX) as listener:
            if listening:
                listener.bind(str(path))
                listener.listen()
                threading.Thread(target=serve, daemon=True).start()
            done = subprocess.run(
                [sys.executable, "-I", "-S", copy, *words], input=ORDER, capture_output=True, check=False
            )
        return done.returncode, done.stderr.decode(), received

    return call


def test_the_client_sends_what_the_intake_reads(client):
    """Procmail is told that the mail is done with, once the intake says so."""
    assert client(intake.FILED, SENDER, "192.0.2.1") == (0, "", mail())


@pytest.mark.parametrize("said", [b"", b"Filed", b"Filed.Filed.", intake.HERE, b"\xff" * 5000, None])
def test_no_other_answer_ends_a_mail(client, said):
    """Garbage, silence and an early end keep the mail in the queue, and leave a line in the log."""
    code, words, _ = client(said, SENDER, "192.0.2.1")
    assert code == 75
    assert words.count("\n") == 1


def test_without_an_intake_or_an_envelope_the_mail_is_kept(client):
    """Neither a missing socket nor missing words lose a mail."""
    assert client(None, SENDER, "192.0.2.1", listening=False)[0] == 75
    assert client(intake.FILED, SENDER, listening=False)[0] == 75
