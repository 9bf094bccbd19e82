"""The compliance suite without a stack: waivers, comparison, reports, the benchmark, the probe's shape."""

import json
import re
import socket
import threading
from datetime import date
from xml.etree import ElementTree

import pytest

from tests.compliance.probe import seat_document
from tests.conftest import ROOT
from tests.unit.test_gate_policy import CREATE, check
from wodctl.adapters import compliance, reports
from wodctl.adapters.configuration import load
from wodctl.commands.check import _tell_changes
from wodctl.errors import ConfigProblem, Unavailable
from wodctl.model.compliance import FAILED, PASSED, WAIVED, Finding, Waiver, changes, judged, not_passed

TODAY = date(2026, 11, 23)
OPEN = Finding("mail/main-cf-is-the-sites", "mail", "It relays nothing.", FAILED, "+relay <all> & more")
FINE = Finding("state/homes", "state", "Homes are closed.", PASSED)
ATTACK = Finding("attacks/gate", "a seat", "It looks.", PASSED, expected="no socket", seen="absent")


def waived(**fields) -> Waiver:
    return Waiver(**({"check": OPEN.id, "reason": "moved on Monday", "expires": TODAY} | fields))


@pytest.mark.parametrize(
    ("waiver", "result"),
    [
        (waived(), WAIVED),
        (waived(where="mail"), WAIVED),
        (waived(expires=None), WAIVED),
        (waived(where="db"), FAILED),
        (waived(check="mail/other"), FAILED),
        (waived(expires=date(2026, 11, 22)), FAILED),
    ],
)
def test_a_waiver_covers_its_check_until_its_last_day(waiver, result):
    """It is for one check, everywhere or at one place, and has an end; what passed stays passed."""
    assert [one.result for one in judged([OPEN, FINE], [waiver], TODAY)] == [result, PASSED]


def test_an_expired_waiver_is_named():
    """Who reads of the failure learns that it was known."""
    (found,) = judged([OPEN], [waived(expires=date(2026, 11, 22))], TODAY)
    assert found.detail == "+relay <all> & more [waived until 2026-11-22: moved on Monday]"


@pytest.mark.parametrize(
    "text",
    [
        "check: mail/x\nreason: y\n",
        "- check: mail/x\n  reason: y\n",
        "- check: mail/x\n  reason: y\n  expires: soon\n",
        "- check: mail/x\n  reason: ' '\n  expires: 2027-01-31\n",
        "- check: mail/x\n  reason: y\n  expires: 2027-01-31\n  because: z\n",
        "- [",
    ],
)
def test_a_waiver_of_a_site_has_a_reason_and_a_last_day(tmp_path, text):
    """Anything else is refused, naming the file."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/waivers.yml").write_text(text)
    with pytest.raises(ConfigProblem, match=re.escape(str(tmp_path / "conf/waivers.yml"))):
        compliance.read_waivers(ROOT, tmp_path, TODAY)


def test_a_sites_waivers_come_before_ours(tmp_path):
    """They are read with their dates; ours have no end."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/waivers.yml").write_text("- {check: a/b, reason: r, expires: 2027-01-31, where: db}\n")
    first, *ours = compliance.read_waivers(ROOT, tmp_path, TODAY)
    assert first == Waiver("a/b", "r", "db", date(2027, 1, 31))
    assert ours
    assert not any(one.expires for one in ours)


def test_only_what_changed_is_told():
    """The same failures as before are no news; a new one, one that is gone and one that was waived are."""
    former = not_passed([OPEN, FINE])
    assert changes(former, not_passed([OPEN, FINE])) == []
    assert changes({}, former) == ["mail/main-cf-is-the-sites at mail: passed before, failed now"]
    assert changes(former, {}) == ["mail/main-cf-is-the-sites at mail: failed before, passed now"]
    assert changes(former, not_passed(judged([OPEN], [waived()], TODAY))) == [
        "mail/main-cf-is-the-sites at mail: failed before, waived now"
    ]


def test_every_item_of_the_benchmark_is_proved_or_waived_by_name():
    """Sections 2, 4 and 5 are whole; a check names no item that there is not."""
    proved = set()
    for path in (ROOT / compliance.SUITE).glob("check_*.py"):
        for mark in re.findall(r"mark\.cis\(([^)]*)\)", path.read_text()):
            proved |= set(re.findall(r'"([0-9.]+)"', mark))
    items = compliance.benchmark(ROOT)
    wanted = {f"{section}.{n}" for section, last in ((2, 18), (4, 12), (5, 32)) for n in range(1, last + 1)}
    assert set(items) == wanted
    assert proved <= wanted
    assert {item for item, entry in items.items() if not entry.get("reason")} <= proved


def test_the_table_in_the_docs_names_checks_that_there_are():
    """docs/compliance.md maps the original's checks to ours by their ids."""
    known = set()
    for path in (ROOT / compliance.SUITE).glob("check_*.py"):
        text = path.read_text()
        names = re.findall(r"^def test_(\w+)", text, re.MULTILINE) + re.findall(
            r'^ +"([a-z-]+)",$', text, re.MULTILINE
        )
        known |= {f"{path.stem.removeprefix('check_')}/{name.replace('_', '-')}" for name in names}
    told = set(re.findall(r"`([a-z]+/[a-z-]+)`", (ROOT / "docs/compliance.md").read_text()))
    assert told
    assert told <= known, sorted(told - known)


def test_the_probe_has_exactly_the_shape_that_the_gate_lets_through():
    """What attacks from a seat's place is made of the document that the policy accepts for a seat."""
    document = seat_document(
        image="wod/lab:0a1b",
        seat=3,
        uid=2003,
        gid=3003,
        network="wod_seats",
        address="10.213.8.18",
        home="/var/lib/wod/data/students/student3",
        memory=2**31,
        quota=200_000,
        pids=512,
    ) | {"Labels": {"wod.project": "wod", "wod.seat": "3"}}
    assert check("POST", CREATE, json.dumps(document).encode())


def test_reports_say_the_same_in_every_form(tmp_path):
    """JSON has counts and checks, JUnit failures and skipped ones, HTML the attacks; nothing of a detail is markup."""
    (known,) = judged([Finding("a/b", "db", "P.", FAILED)], [Waiver("a/b", "for <b>now</b>")], TODAY)
    found = [OPEN, FINE, ATTACK, known]
    document = reports.document(found)
    assert {key: document[key] for key in ("passed", "failed", "waived")} == {
        "passed": 2,
        "failed": 1,
        "waived": 1,
    }
    assert document["checks"][0] == {
        "id": OPEN.id, "where": "mail", "promise": OPEN.promise, "result": "failed", "detail": OPEN.detail,
    }  # fmt: skip
    assert document["checks"][2]["seen"] == "absent"
    suite = ElementTree.fromstring(reports.junit(found))  # noqa: S314 - our own
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "1", "1")
    assert suite.find("testcase/failure").get("message") == OPEN.detail
    page = reports.html(found, compliance.benchmark(ROOT), ROOT, "http://jup.example.net:8000")
    assert "+relay &lt;all&gt; &amp; more" in page
    assert "for &lt;b&gt;now" in page
    assert "<td>no socket</td><td>absent</td>" in page
    assert not re.search(r"(src|href)=|url\(", page)


def test_private_checks_of_a_site_are_run_with_ours(tmp_path):
    """check_*.py in the folder `compliance` of the private repository; a site without one has none."""

    class Settings:
        WODPRIVDIR = str(tmp_path)

    assert compliance._private_suite(Settings) == []
    (tmp_path / "compliance").mkdir()
    assert compliance._private_suite(Settings) == [tmp_path / "compliance"]


class Relay:
    """A relay that keeps the mails which it is handed."""

    def __init__(self) -> None:
        self.mails: list[str] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            client, _ = self._listening.accept()
            with client, client.makefile("rwb", buffering=0) as lines:
                lines.write(b"220 relay\r\n")
                while line := lines.readline().upper():
                    if line.startswith(b"DATA"):
                        lines.write(b"354 go on\r\n")
                        text = b""
                        while (part := lines.readline()) != b".\r\n":
                            text += part
                        self.mails.append(text.decode())
                    lines.write(b"250 well\r\n")


def test_the_operator_is_told_of_changes_only(tmp_path):
    """A relay gets a mail when something is found, none while it stays so, and one when it is mended."""
    relay = Relay()

    class Site:
        state = tmp_path
        settings = load(ROOT, tmp_path, {}, {
            "WODMONITOR": "ops@example.net", "WODSMTPHOST": "127.0.0.1", "WODSMTPPORT": relay.port,
            "WODSMTPTLS": "none", "WODBEFQDN": "jup.example.net",
        })[0]  # fmt: skip

    for _ in range(2):
        _tell_changes(Site, [FINE])
    assert relay.mails == []
    for _ in range(2):
        _tell_changes(Site, [FINE, OPEN])
    (told,) = relay.mails
    assert "To: ops@example.net" in told
    assert "Subject: Workshops-on-Demand on jup.example.net: 1 checks fail" in told
    assert "mail/main-cf-is-the-sites at mail: passed before, failed now" in told
    assert OPEN.detail in told
    _tell_changes(Site, [FINE])
    assert "failed before, passed now" in relay.mails[1]
    assert "Nothing fails at the moment." in relay.mails[1]


def test_what_the_relay_did_not_take_is_told_the_next_time(tmp_path):
    """Nothing is remembered before the mail was taken."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    settings = {"WODMONITOR": "ops@example.net", "WODSMTPHOST": "127.0.0.1", "WODSMTPPORT": port}

    class Site:
        state = tmp_path

    Site.settings = load(ROOT, tmp_path, {}, settings)[0]
    with pytest.raises(Unavailable, match=f"127.0.0.1:{port} did not take"):
        _tell_changes(Site, [OPEN])
    assert compliance.former_results(tmp_path) == {}
    Site.settings = load(ROOT, tmp_path, {}, {"WODMONITOR": "ops@example.net"})[0]
    with pytest.raises(ConfigProblem, match="no relay"):
        _tell_changes(Site, [OPEN])
