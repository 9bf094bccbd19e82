"""What procmail runs: a row for every mail, or the mail stays in Postfix's queue."""

import io
import json
import sys
import types

import pytest

from wodctl import intake

ENVELOPE = (
    b"From wodadmin@localhost  Mon Nov 23 01:48:59 2026\nReturn-Path: <wodadmin@localhost>\n"
    b"X-Original-To: wodadmin@portal.example\nDelivered-To: wodadmin@portal.example\n"
    b"Received: from portal by x (Postfix) with SMTP id FORGED (unknown [192.0.2.1])\n"
    b"\tby mail.wod.internal (Postfix) with ESMTP id 4jXpkz6TRQzJ6X1\n"
    b"\tfor <wodadmin@portal.example>; Mon, 23 Nov 2026 01:48:59 +0000 (UTC)\n"
    b"Received: from y\n\tby mail.wod.internal (Postfix) with ESMTP id OLDER\n"
)
ORDER = ENVELOPE + b"Subject: CREATE 3 7\n\nWKSHP-X\n"


class Database:
    """Stands for psycopg2 and its connection: keeps what was executed, and whether it was committed."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.calls: list[tuple] = []
        self.committed = False

    def connect(self, _where: str) -> "Database":
        if self.error:
            raise self.error
        return self

    def cursor(self) -> "Database":
        return self

    def __enter__(self) -> "Database":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self.committed = kind is None

    def execute(self, _query: str, values: tuple) -> None:
        self.calls.append(values)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run the program on a mail; returns its exit code."""
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"WODSENDER": "wodadmin@localhost"}))
    monkeypatch.setattr(intake, "SETTINGS", str(settings))

    def call(database: Database, message: bytes = ORDER, *words: str) -> int:
        monkeypatch.setitem(sys.modules, "psycopg2", types.SimpleNamespace(connect=database.connect))
        monkeypatch.setattr(sys, "argv", ["intake", *(words or ("wodadmin@localhost", "192.0.2.1"))])
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(message)))
        return intake.main()

    return call


def test_an_order_is_committed_before_the_mail_is_done_with(run, capsys):
    """Exit code 0 means a committed row, and nothing is printed."""
    database = Database()
    assert run(database) == 0
    assert database.committed
    assert database.calls == [
        ("4jXpkz6TRQzJ6X1", "wodadmin@localhost", "192.0.2.1", "CREATE", 3, 3, 7, "WKSHP-X", None, ORDER)
    ]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("message", "sender", "words"),
    [
        (ORDER, "someone@example.net", "may not order anything"),
        (ORDER, "", "may not order anything"),
        (ENVELOPE + b"Subject: CREATE 0 7\n\nWKSHP-X\n", "wodadmin@localhost", "'0' is no seat"),
        (ORDER + b"x" * intake.LARGEST_MAIL, "wodadmin@localhost", "longer than"),
        (ENVELOPE + b"\xff\x00\n", "wodadmin@localhost", "0 lines of Subject"),
    ],
)
def test_what_is_no_order_is_filed_as_rejected(run, message, sender, words):
    """The row has the reason and the mail, at most 64 KiB of it, and nothing that could be carried out."""
    database = Database()
    assert run(database, message, sender, "192.0.2.1") == 0
    (values,) = database.calls
    assert database.committed
    assert values[3:8] == (None,) * 5
    assert words in values[8]
    assert values[9] == message[:65536]


@pytest.mark.parametrize("error", [ConnectionError("no\nsuch socket"), RuntimeError("?"), MemoryError()])
def test_without_a_database_the_mail_is_kept(run, capsys, error):
    """Whatever goes wrong, Postfix is told to try again, and why in one line."""
    assert run(Database(error)) == 75
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Not filed yet") and err.count("\n") == 1


def test_a_failed_call_of_the_function_keeps_the_mail(run):
    """A row that was not committed is no row."""

    class Refusing(Database):
        def execute(self, _query: str, values: tuple) -> None:
            raise RuntimeError("function wod.accept_mail does not exist")

    database = Refusing()
    assert run(database) == 75
    assert not database.committed


def test_a_wrong_call_or_a_missing_setting_keeps_the_mail(run, monkeypatch):
    """Neither missing words nor missing settings lose a mail."""
    assert run(Database(), ORDER, "only-a-sender") == 75
    monkeypatch.setattr(intake, "SETTINGS", "/nonexistent/settings.json")
    assert run(Database()) == 75


def test_a_mail_without_a_queue_id_is_kept(run):
    """What could not be told from its own repetition is not filed."""
    assert run(Database(), b"Subject: CREATE 3 7\n\nWKSHP-X\n") == 75
    forged = b"Received: from z\n\tfor us\nReceived: from y\n\tby x (Postfix) with ESMTP id FORGED\n"
    assert run(Database(), forged + b"Subject: CREATE 3 7\n\nWKSHP-X\n") == 75


def test_bytes_of_no_alphabet_in_the_envelope_do_no_harm(run):
    """A sender that is not ASCII reaches the database as text that it can keep."""
    database = Database()
    assert run(database, ORDER, "\udcff\xe9@x", "192.0.2.1") == 0
    assert database.calls[0][1].encode("utf-8")
