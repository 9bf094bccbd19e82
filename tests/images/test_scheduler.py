"""The scheduler: every mail of a life in its time, once, whatever is killed; an hour lasts two seconds here."""

import time
from collections import Counter
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import docker
from tests.images.registration_site import RegistrationSite, registration_site, wait_for, workshop

ORDER = (
    "welcome",
    "create",
    "credentials",
    "expiring",
    "cleanup",
    "reset",
    "error",
    "expired",
    "badge",
    "purge",
)
LIFE = ("welcome", "create", "credentials", "expiring", "cleanup", "expired")


@pytest.fixture(scope="module")
def running() -> Iterator[RegistrationSite]:
    with registration_site("wodtestscheduler", Path("/var/lib/wod-test-scheduler")) as site:
        yield site


@pytest.fixture
def site(running: RegistrationSite) -> Iterator[RegistrationSite]:
    """One workshop, nobody registered, a scheduler at work."""
    running.fresh()
    running.start_scheduler()
    yield running
    running.kill_scheduler()


def put(site: RegistrationSite, path: str, **said: Any) -> None:
    answer = site.call("PUT", f"/api/{path}", said, role="moderator")
    assert answer.status == 200, answer


def make_ready(
    site: RegistrationSite, customer: int = 1, student: int = 1, password: str = "Ws7password"
) -> None:
    """What a backend tells when a seat is ready, in its order."""
    put(site, f"student/{student}", password=password)
    put(site, f"customer/{customer}", active="true")


def clean(site: RegistrationSite, customer: int = 1, student: int = 1) -> None:
    """What a backend tells at the end."""
    put(site, f"student/{student}", password="another")
    put(site, f"customer/{customer}", completionPercentage="80")
    put(site, f"student/{student}", assigned="false")
    put(site, f"customer/{customer}", cleaned="true")


def state(site: RegistrationSite, customer: int = 1) -> str:
    return site.sql(f'SELECT "lastEmailSent" FROM customers WHERE id = {customer}')[0]  # noqa: S608


def mails_of(site: RegistrationSite, customer: int = 1) -> list[str]:
    """Which mails were taken, by the names of their events, in the order of a life: letters and orders go apart."""
    found = [str(mail["Message-ID"])[1:].split(".")[0] for mail in site.receiver.taken]
    start = f"customer-{customer}-"
    return sorted((name.removeprefix(start) for name in found if name.startswith(start)), key=ORDER.index)


def text_of(mail: EmailMessage, kind: str = "plain") -> str:
    part = mail.get_body((kind,))
    assert part
    return str(part.get_content())


def test_a_whole_life_from_registration_to_a_free_seat(site: RegistrationSite) -> None:
    """Welcome, CREATE, credentials, one hour left, CLEANUP, badge; then place and seat are free again."""
    site.register("ada@example.net", name="<b>ada</b> & co")
    wait_for(lambda: mails_of(site) == ["welcome", "create"])
    create = site.receiver.of("CREATE")[0]
    assert (str(create["Subject"]), create["From"], create["To"]) == (
        "CREATE 1 1 ada@example.net", "wodadmin@localhost", "wodadmin@one.example.net",
    )  # fmt: skip
    assert text_of(create).strip() == "WKSHP-Python101"
    make_ready(site)
    wait_for(lambda: "credentials" in mails_of(site))
    credentials = site.receiver.of("WoD Developer Workshops-on-Demand credentials")[0]
    for kind in ("plain", "html"):
        for fact in ("student1", "Ws7password", "http://one.example.net:8000/user/student1/lab?",
                     "http://one.example.net:8000/hub/login"):  # fmt: skip
            assert fact in text_of(credentials, kind)
    assert "&lt;B&gt;" in text_of(credentials, "html").replace("&lt;b", "&lt;B").replace("b&gt;", "B&gt;")
    assert "<b>" not in text_of(credentials, "html").lower()
    wait_for(lambda: mails_of(site) == list(LIFE))
    assert "that of the mail with your credentials" in text_of(site.receiver.of("Your WoD")[0])
    assert "Ws7password" not in text_of(site.receiver.of("Your WoD")[0])
    assert "badge.jpg" in text_of(site.receiver.of("Thanks")[0], "html")
    clean(site)
    assert site.register("bob@example.net").body["studentId"] == 1
    assert site.sql("SELECT capacity FROM workshops") == ["19"]
    assert site.sql('SELECT "completionPercentage" FROM customers WHERE id = 1') == ["80"]


def test_a_password_is_nowhere_in_clear_and_gone_once_its_mail_is_sent(site: RegistrationSite) -> None:
    """Encrypted while the relay is away; after that there is not even its encrypted form."""
    site.receiver.at = lambda step, line: "451 later" if step == "rcpt" and "ada" in line else None
    site.register("ada@example.net")
    wait_for(lambda: state(site) == "welcome")
    put(site, "student/1", password="Ws7password")
    assert site.sql("SELECT sealed IS NOT NULL FROM students WHERE id = 1") == ["t"]
    put(site, "customer/1", active="true")
    wait_for(lambda: site.sql("SELECT count(*) FROM outbox WHERE sealed IS NOT NULL") == ["1"])
    dump = docker(
        "exec", "--user=1800", f"{site.name}-db", "pg_dump", "-h", "/run/postgresql", "-U", "postgres", "api"
    )
    assert "customer-1-credentials" in dump and "Ws7password" not in dump
    site.receiver.at = lambda _step, _line: None
    wait_for(lambda: "credentials" in mails_of(site))
    wait_for(lambda: site.sql("SELECT count(*) FROM outbox WHERE sealed IS NOT NULL") == ["0"])
    assert site.sql("SELECT count(*) FROM students WHERE sealed IS NOT NULL") == ["0"]


def test_a_backend_that_does_not_get_ready_ends_in_an_apology(site: RegistrationSite) -> None:
    """After the patience of the site: CLEANUP, a mail, the place free; PURGE if the seat does not come back."""
    site.register("ada@example.net")
    wait_for(lambda: mails_of(site) == ["welcome", "create"])
    site.sql(
        "UPDATE customers SET \"startDate\" = now() - interval '10 minutes', due = now(); NOTIFY wod_api"
    )
    wait_for(lambda: mails_of(site) == ["welcome", "create", "cleanup", "error"])
    assert site.sql("SELECT capacity FROM workshops") == ["20"]
    site.sql("UPDATE customers SET purge_after = now(), due = now(); NOTIFY wod_api")
    wait_for(lambda: mails_of(site)[-1] == "purge")
    assert site.receiver.subjects()[-1] == "PURGE 1 1"


def test_a_workshop_that_needs_a_reset_gets_one(running: RegistrationSite) -> None:
    """RESET of the seat after its CLEANUP; of the whole range for the two workshops that share an appliance."""
    running.fresh(workshop("Docker 101", 5, 9, reset=True),
                  workshop("OneView", 10, 11, reset=True, notebook="WKSHP-OneView"))  # fmt: skip
    running.start_scheduler()
    try:
        for address, title in (("a", "Docker 101"), ("b", "OneView"), ("c", "OneView")):
            running.register(f"{address}@example.net", title)
        wait_for(lambda: len(running.receiver.of("CREATE")) == 3)
        for number in (1, 2, 3):
            running.call("PUT", f"/api/customer/unregister/{number}", role="moderator")
        wait_for(lambda: len(running.receiver.of("RESET")) == 2)
        assert sorted(str(mail["Subject"]) for mail in running.receiver.of("RESET")) == [
            "RESET 10,11 3",
            "RESET 5 1",
        ]
        capacities = running.sql("SELECT name, capacity FROM workshops ORDER BY name")
        assert capacities == ["Docker 101|5", "OneView|0"]  # the backend gives the whole range back
    finally:
        running.kill_scheduler()


def test_who_cancels_before_his_order_has_gone_frees_the_seat_at_once(site: RegistrationSite) -> None:
    """Nothing is ordered, nothing cleaned, when the backend has never heard of him."""
    site.kill_scheduler()
    site.register("ada@example.net")
    site.call("PUT", "/api/customer/unregister/1", role="moderator")
    site.start_scheduler()
    wait_for(lambda: state(site) == "expired")
    assert site.sql("SELECT assigned FROM students WHERE id = 1") == ["f"]
    assert site.sql("SELECT capacity FROM workshops") == ["20"]
    time.sleep(0.5)
    assert site.receiver.taken == []


def test_three_workshops_make_an_apprentice(site: RegistrationSite) -> None:
    """One mail with the badge, at the third workshop, under whatever spelling of the address."""
    site.sql(
        'INSERT INTO customers (name, email, address, "sessionName", "lastEmailSent", "endDate", began)'
        " SELECT 'Ada', 'ada@example.net', 'ada@example.net', 'W' || n, 'expired', now(), now()"
        " FROM generate_series(1, 2) AS n"
    )
    site.register("Ada+x@example.net")
    wait_for(lambda: state(site, 3) == "welcome")
    make_ready(site, 3)
    wait_for(lambda: "badge" in mails_of(site, 3))
    assert len(site.receiver.of("Way to go! You just earned the WoD Developer Apprentice badge!")) == 1
    assert site.sql('SELECT "specialBadgeId" FROM customers WHERE id = 3') == ["1"]


@pytest.mark.parametrize("answer", ["421 not now", "450 busy", "554 who are you"])
def test_orders_are_tried_until_a_backend_takes_them(site: RegistrationSite, answer: str) -> None:
    """Whatever it says, and at whatever step; in order, each once."""
    refused: Counter[str] = Counter()

    def at(step: str, line: str) -> str | None:
        if step in ("rcpt", "dot") and ("one.example.net" in line or step == "dot"):
            refused[step] += 1
            return answer if refused[step] <= 2 else None
        return None

    site.receiver.at = at
    site.register("ada@example.net")
    site.register("bob@example.net")
    wait_for(lambda: len(site.receiver.of("CREATE")) == 2)
    assert [str(mail["Subject"])[:10] for mail in site.receiver.of("CREATE")] == ["CREATE 1 1", "CREATE 2 2"]


def test_a_backend_does_not_wait_for_another(running: RegistrationSite) -> None:
    """Who finds no seat at the first has one at the next, by its own number, whatever is the matter with the first."""
    running.fresh(workshop("Python 101", 5, 5, capacity=9))
    running.start_scheduler()
    try:
        running.receiver.at = lambda step, line: (
            "451 later" if step == "rcpt" and "one.example.net" in line else None
        )
        running.register("ada@example.net")
        assert running.register("bob@example.net").body["studentId"] == 65
        wait_for(lambda: running.receiver.of("CREATE"))
        (create,) = running.receiver.of("CREATE")
        assert (create["To"], create["Subject"]) == ("wodadmin@two.example.net", "CREATE 5 2 bob@example.net")
        make_ready(running, 2, 65)
        wait_for(lambda: "credentials" in mails_of(running, 2))
        text = text_of(running.receiver.of("WoD Developer Workshops-on-Demand credentials")[0])
        assert "https://two.example.net:8443/user/student5/lab?" in text
    finally:
        running.kill_scheduler()


STEPS = ("greeting", "helo", "mail", "rcpt", "data", "dot")


def test_killed_at_every_step_of_every_dialogue_no_mail_is_lost_and_none_comes_twice(
    site: RegistrationSite,
) -> None:
    """SIGKILL at the first step of a mail, then at the second, and so on, for each of the six of a life."""
    left = list(STEPS)
    killed: Counter[str] = Counter()

    def at(now: str, _line: str) -> str | None:
        if left and now == left[0]:
            killed[left.pop(0)] += 1
            site.restart_scheduler()
            raise ConnectionResetError
        if now == "taken":
            left[:] = STEPS
        return None

    site.receiver.at = at
    live_a_life(site)
    assert killed == Counter(STEPS * len(LIFE))


def live_a_life(site: RegistrationSite) -> None:
    """From the registration to the end; each mail came, and came once."""
    site.register("ada@example.net")
    wait_for(lambda: state(site) == "welcome" and "create" in mails_of(site), 200)
    make_ready(site)
    wait_for(lambda: set(LIFE) <= set(mails_of(site)), 300)
    wait_for(lambda: site.sql("SELECT count(*) FROM outbox WHERE state = 'waiting'") == ["0"])
    assert Counter(mails_of(site)) == Counter(LIFE)
    assert site.sql("SELECT count(DISTINCT message_id), count(*) FROM outbox") == ["6|6"]
    assert site.sql("SELECT capacity FROM workshops") == ["20"]


@pytest.mark.parametrize("pause", [0.05, 0.3])
def test_killed_again_and_again_with_many_registrations_nothing_is_lost_or_repeated(
    site: RegistrationSite, pause: float
) -> None:
    """Twenty registrations while the scheduler is killed at random moments: forty mails, each once, all in the end."""
    for number in range(20):
        site.register(f"p{number}@example.net")
    for _ in range(6):
        time.sleep(0.6 + pause)
        with site.receiver.one_at_a_time:  # not within a dialogue: those have a test of their own
            site.restart_scheduler()
    wait_for(lambda: site.sql("SELECT count(*) FROM outbox WHERE body IN ('welcome', 'WKSHP-Python101')"
                              " AND event ~ '(welcome|create)$' AND state = 'sent'") == ["40"], 40)  # fmt: skip
    counted = Counter(str(mail["Message-ID"]) for mail in site.receiver.taken)
    assert max(counted.values()) == 1
    creates = [str(mail["Subject"]) for mail in site.receiver.of("CREATE")]
    assert len(creates) == len(set(creates)) == 20


def test_a_database_that_restarts_loses_nothing(site: RegistrationSite) -> None:
    """In the middle of a life; API and scheduler go on by themselves."""
    site.register("ada@example.net")
    docker("restart", "--time=10", f"{site.name}-db")
    wait_for(lambda: site.call("GET", "/health").status == 200)
    wait_for(lambda: mails_of(site) == ["welcome", "create"])
    make_ready(site)
    wait_for(lambda: "credentials" in mails_of(site))


def test_one_scheduler_works_at_a_time(site: RegistrationSite) -> None:
    """A second one waits, and takes over when the first is gone."""
    second = RegistrationSite(site.name, site.state, site.images, site.receiver)
    second._run("second", "--entrypoint=tini", words=["--", "python", "-m", "wod_api.scheduler"])
    try:
        time.sleep(2)
        assert "at work" not in docker("logs", f"{site.name}-second")
        site.kill_scheduler()
        wait_for(lambda: "at work" in docker("logs", f"{site.name}-second"))
    finally:
        docker("rm", "--force", f"{site.name}-second", check=False)
