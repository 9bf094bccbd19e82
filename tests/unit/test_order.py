"""The grammar of orders: what a mail may say, and that nothing else ever becomes an order."""

import random
from dataclasses import astuple

import pytest

from wodctl.model.order import ACTIONS, Order, Rejected, check_order, parse_mail

SENDER = "wodadmin@localhost"


def parse(message: bytes, sender: str = SENDER) -> Order:
    return parse_mail(message, sender, wodsender=SENDER)


def mail(subject: str, body: str = "WKSHP-Welcome101\n") -> bytes:
    return f"Subject: {subject}\n\n{body}".encode("latin-1")


def reason(message: bytes, sender: str = SENDER) -> str:
    with pytest.raises(Rejected) as refusal:
        parse(message, sender)
    return refusal.value.message


@pytest.mark.parametrize(
    ("message", "order"),
    [
        (mail("CREATE 12 34 someone@example.net"), ("CREATE", 12, 12, 34, "WKSHP-Welcome101")),
        (mail("CLEANUP 1 0"), ("CLEANUP", 1, 1, 0, "WKSHP-Welcome101")),
        (mail("RESET 1,20 33", "CHLG-OneView-Advanced\r\n"), ("RESET", 1, 20, 33, "CHLG-OneView-Advanced")),
        (mail("RESET 7 33"), ("RESET", 7, 7, 33, "WKSHP-Welcome101")),
        (mail("PURGE 5 34", ""), ("PURGE", 5, 5, 34, None)),
        (mail("PURGE 5 34", "../../etc"), ("PURGE", 5, 5, 34, None)),
        (mail("CREATE   12\t34 "), ("CREATE", 12, 12, 34, "WKSHP-Welcome101")),
        (
            mail("CREATE 999999 999999999999999999"),
            ("CREATE", 999999, 999999, 10**18 - 1, "WKSHP-Welcome101"),
        ),
        (mail("CREATE 3 7", " WKSHP-A.b_c-1 \r\nmore\n"), ("CREATE", 3, 3, 7, "WKSHP-A.b_c-1")),
        (mail("CREATE 3 7 \xe9\xff =?utf-8?q?x?="), ("CREATE", 3, 3, 7, "WKSHP-Welcome101")),
    ],
)
def test_an_order_is_understood(message, order):
    """Each form of the protocol gives the order that it means."""
    assert astuple(parse(message)) == order


@pytest.mark.parametrize(
    "message",
    [
        b"Subject: CREATE 3 7 a@b\nWKSHP-X\n",
        b"Subject: CREATE 3 7 a@b\r\nWKSHP-X\r\n",
        b"Subject: CREATE 3 7\n\nWKSHP-X\n",
        b"From wodadmin@localhost  Mon Nov 23 01:48:59 2026\nsubject:CREATE 3 7\nX-Y: z\n\nWKSHP-X",
        b"Received: from x\n\tby y (Postfix)\n\tid z\nSubject: CREATE 3\n 7\n a@b\n\nWKSHP-X\n",
    ],
    ids=["portal", "portal with CRLF", "test tool", "mailbox", "folded"],
)
def test_every_way_to_lay_out_a_mail_is_understood(message):
    """No blank line after the subject, a mailbox's first line, folded fields: all mean the same."""
    assert astuple(parse(message)) == ("CREATE", 3, 3, 7, "WKSHP-X")


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        ("", "Unknown action ''"),
        ("CREATE", "'' is no seat"),
        ("CREATE 3", "'' is no customer's number"),
        ("create 3 7", "Unknown action 'create'"),
        ("CREATED 3 7", "Unknown action 'CREATED'"),
        ("Re: CREATE 3 7", "Unknown action 'Re:'"),
        ("=?utf-8?q?CREATE_3_7?=", "not MIME-encoded"),
        ("CREATE 0 7", "'0' is no seat"),
        ("CREATE 03 7", "'03' is no seat"),
        ("CREATE -3 7", "'-3' is no seat"),
        ("CREATE +3 7", "'+3' is no seat"),
        ("CREATE 3.0 7", "'3.0' is no seat"),
        ("CREATE 1e3 7", "'1e3' is no seat"),
        ("CREATE 1000000 7", "'1000000' is no seat"),
        ("CREATE \xb2 7", "'\\xb2' is no seat"),
        ("CREATE student3 7", "'student3' is no seat"),
        ("CREATE 1,20 7", "'1,20' is no seat"),
        ("CLEANUP 3,3 7", "'3,3' is no seat"),
        ("PURGE 1+a[$(cmd)] 0", "'1+a[$(cmd)]' is no seat"),
        ("PURGE [object Promise] 12", "'[object' is no seat"),
        ("RESET 1, 7", "'1,' is no seat"),
        ("RESET ,20 7", "',20' is no seat"),
        ("RESET 1,020 7", "'1,020' is no seat"),
        ("RESET 1,2,3 7", "'1,2,3' is no seat"),
        ("RESET 20,1 7", "Seats 20 to 1 are no range"),
        ("CREATE 3 a@b", "'a@b' is no customer's number"),
        ("CREATE 3 7;id", "'7;id' is no customer's number"),
        ("CREATE 3 -7", "'-7' is no customer's number"),
        ("CREATE 3 1000000000000000000", "is no customer's number"),
        ("CREATE 3\xa07", "'3\\xa07' is no seat"),
        ("CREATE \x003 7", "'\\x003' is no seat"),
    ],
)
def test_a_wrong_subject_is_rejected_in_words(subject, words):
    """The reason shows the word that was wrong, harmlessly, and what was expected."""
    told = reason(mail(subject))
    assert words in told
    assert "expected" in told
    assert told.isascii() and told.isprintable()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "without a workshop"),
        ("\nWKSHP-X\n", "without a workshop"),
        ("   \n", "without a workshop"),
        ("../../etc", "'../../etc' is no name"),
        ("WKSHP-../x", "is no name"),
        ("WKSHP-a..b", "is no name"),
        ("WKSHP-.a", "is no name"),
        ("WKSHP-", "is no name"),
        ("WKSHP-a/b", "is no name"),
        ("WKSHP-a b", "is no name"),
        ("WKSHP-a;id", "is no name"),
        ("WKSHP-$(id)", "is no name"),
        ("wkshp-a", "is no name"),
        ("CHLG-WKSHP", None),
        ("WKSHP-\xe9", "is no name"),
        ("WKSHP-a\x00", "is no name"),
        ("WKSHP-a\x0b", "is no name"),
        ("WKSHP-" + "a" * 65, "is no name"),
        ("WKSHP-" + "a" * 64, None),
        ("VOID", "'VOID' is no name"),
    ],
)
def test_only_a_workshop_may_be_named(body, words):
    """The first line of the body is a name of the strict form, or the order is rejected."""
    if words is None:
        assert parse(mail("CREATE 3 7", body)).workshop == body
    else:
        assert words in reason(mail("CREATE 3 7", body))


@pytest.mark.parametrize(
    "message",
    [
        b"Subject: CREATE 3 7\nWKSHP-X: y\n",
        b"Subject: CREATE 3 7\n WKSHP-X\n",
        b"Subject: CREATE 3 7\nX-Header: y\n",
    ],
)
def test_content_that_reads_as_a_header_names_no_workshop(message):
    """Content that Postfix has to take for a field or a fold is never guessed to be a workshop."""
    assert "without a workshop" in reason(message)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\n",
        b"Hello\n",
        b"CREATE 3 7\n\nWKSHP-X\n",
        b"\nSubject: CREATE 3 7\n\nWKSHP-X\n",
        b" Subject: CREATE 3 7\n\nWKSHP-X\n",
        b"Subject: CREATE 3 7\nSubject: PURGE 4 7\n\nWKSHP-X\n",
    ],
)
def test_there_must_be_one_subject(message):
    """None or two of them make no order, so that content cannot bring in another."""
    assert "expected exactly one" in reason(message)


def test_a_wrong_sender_is_rejected_whatever_he_says():
    """The envelope's sender must be WODSENDER; upper and lower case are the same."""
    assert parse(mail("CREATE 3 7"), "WodAdmin@LocalHost").first == 3
    for sender in ("", "wodadmin", "wodadmin@localhost.example.net", "x" * 500):
        told = reason(mail("CREATE 3 7"), sender)
        assert "may not order anything" in told
        assert len(told) < 250


def test_a_challenge_uses_the_folder_of_its_workshop():
    """`CHLG-X` is the workshop of the folder WKSHP-X in another mode."""
    challenge = Order("CREATE", 3, 3, 7, "CHLG-WKSHP-X")
    assert (challenge.mode, challenge.folder) == ("CHLG", "WKSHP-WKSHP-X")
    workshop = Order("CREATE", 3, 3, 7, "WKSHP-CHLG-X")
    assert (workshop.mode, workshop.folder) == ("WKSHP", "WKSHP-CHLG-X")
    purge = Order("PURGE", 3, 3, 7, None)
    assert (purge.mode, purge.folder) == (None, None)


@pytest.mark.parametrize(
    "values",
    [
        ("FORMAT", 3, 3, 7, "WKSHP-X"),
        ("CREATE", 3, 4, 7, "WKSHP-X"),
        ("CREATE", 0, 0, 7, "WKSHP-X"),
        ("RESET", 5, 4, 7, "WKSHP-X"),
        ("RESET", 1, 10**6, 7, "WKSHP-X"),
        ("CREATE", 3, 3, -1, "WKSHP-X"),
        ("CREATE", 3, 3, 10**18, "WKSHP-X"),
        ("CREATE", 3, 3, 7, None),
        ("CREATE", 3, 3, 7, "../../etc"),
        ("PURGE", 3, 3, 7, "WKSHP-X"),
    ],
)
def test_a_wrong_order_cannot_be_made(values):
    """What the command line or a row of the database says is held to the same rules."""
    with pytest.raises(Rejected):
        Order(*values)


def test_seats_that_are_not_here_are_rejected():
    """Both ends of a range must be seats of this backend."""
    for first, last in ((1, 1), (100, 100), (1, 100)):
        check_order(Order("RESET", first, last, 7, "WKSHP-X"), seat_min=1, seat_max=100)
    for first, last in ((101, 101), (50, 101), (1, 1)):
        with pytest.raises(Rejected, match="not on this backend"):
            check_order(Order("RESET", first, last, 7, "WKSHP-X"), seat_min=2, seat_max=100)


def test_noise_is_rejected_or_a_true_order():
    """Each of 20,000 mutilated mails is an order within its bounds, or is rejected in printable words."""
    random_source = random.Random(2026)  # noqa: S311 - repeatable noise
    pieces = [
        *b" \n\r\t:,0129-./$\x00\xff",
        b"Subject:",
        b"From ",
        b"WKSHP-X",
        b"CHLG-",
        b"..",
        b"$(id)",
        b"=?utf-8?q?",
    ]
    pieces = [bytes([piece]) if isinstance(piece, int) else piece for piece in pieces]
    orders = 0
    for _ in range(20_000):
        message = bytearray(b"Subject: RESET 1,20 7 a@b\n\nWKSHP-X\n")
        for _ in range(random_source.randrange(3)):
            start = random_source.randrange(len(message))
            message[start : start + random_source.randrange(8)] = random_source.choice(pieces)
        try:
            order = parse(bytes(message))
        except Rejected as refusal:
            assert refusal.message.isascii() and refusal.message.isprintable()
        else:
            orders += 1
            assert order.action in ACTIONS
            assert 1 <= order.first <= order.last < 10**6
            assert order.workshop is None or (
                order.workshop[:5] in ("WKSHP", "CHLG-") and "/" not in order.workshop
            )
    assert 0 < orders < 20_000


def test_a_mail_cannot_deliver_into_a_home():
    """That is the operator's alone, whose command makes the same order."""
    with pytest.raises(Rejected, match="Unknown action 'DELIVER'"):
        parse_mail(b"Subject: DELIVER 3 0\n\nWKSHP-X\n", "a@b", wodsender="a@b")
    assert Order("DELIVER", 3, 3, 0, "CHLG-X").mode == "CHLG"
    with pytest.raises(Rejected, match="only RESET takes a range"):
        Order("DELIVER", 3, 4, 0, "WKSHP-X")
