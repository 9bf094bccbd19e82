"""The registration API: every endpoint and status that portals and backends know, seats given once, attacks refused."""

import contextlib
import json
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.images.registration_site import BACKENDS, RegistrationSite, registration_site, workshop
from wodctl.adapters.state import StateDirectory


@pytest.fixture(scope="module")
def running() -> Iterator[RegistrationSite]:
    with registration_site("wodtestapi", Path("/var/lib/wod-test-api")) as site:
        yield site


@pytest.fixture
def site(running: RegistrationSite) -> RegistrationSite:
    """Nobody registered, one workshop of twenty seats, two backends."""
    running.fresh()
    running.sql("DELETE FROM users WHERE username NOT IN ('moderator', 'hackshack')")
    return running


def test_what_backends_elsewhere_know_stays_until_the_operator_wants_a_new_one(tmp_path: Path) -> None:
    """The backend of this host is given the password that there is; once that is removed, both get a new one."""
    state = StateDirectory(tmp_path, ROOT)
    state.ensure_folders("")
    state.ensure_secrets("")
    known, own = (
        tmp_path / f"secrets/{name}" for name in ("api-db/moderator-password", "worker/own-api-password")
    )
    state.ensure_api_secrets("")
    assert known.read_text() == own.read_text()
    known.write_text("told to others")
    own.unlink()
    state.ensure_api_secrets("")
    assert known.read_text() == own.read_text() == "told to others"
    known.unlink()
    state.ensure_api_secrets("")
    assert known.read_text() == own.read_text() != "told to others"
    assert (known.stat().st_mode & 0o777, own.stat().st_mode & 0o777) == (0o400, 0o400)


# --- The contract ---


def test_login_gives_what_clients_expect(site: RegistrationSite) -> None:
    """Number, name, roles as ROLE_…, and a token; 404 for an unknown user, 401 for a wrong password."""
    answer = site.login("moderator")
    assert answer.status == 200
    assert set(answer.body) == {"id", "username", "email", "roles", "accessToken"}
    assert answer.body["roles"] == ["ROLE_MODERATOR"]
    unknown = site.call("POST", "/api/login", {"username": "nobody", "password": "x"})
    assert (unknown.status, unknown.body) == (404, {"message": "User Not found."})
    wrong = site.call("POST", "/api/login", {"username": "moderator", "password": "x"})
    assert (wrong.status, wrong.body) == (401, {"accessToken": None, "message": "Invalid Password!"})
    form = b"username=moderator&password=x"
    assert (
        site.call("POST", "/api/login", form, content_type="application/x-www-form-urlencoded").status == 401
    )


ENDPOINTS = {
    "POST /login": "", "GET /workshops": "", "GET /workshops/1": "", "GET /workshopsBeta": "user",
    "POST /workshop": "admin", "PUT /workshop/1": "moderator", "DELETE /workshop/1": "admin",
    "GET /students": "moderator", "GET /students/1": "moderator", "POST /student": "admin",
    "PUT /student/1": "moderator", "DELETE /student/1": "admin",
    "GET /customers": "user", "GET /customers/1": "user", "POST /customer": "", "PUT /customer/1": "moderator",
    "PUT /customer/unregister/1": "user", "DELETE /customer/1": "admin",
    "GET /users": "admin", "GET /users/1": "admin", "POST /user": "admin", "PUT /user/1": "admin",
    "DELETE /user/1": "admin",
    "GET /locations": "", "GET /location/1": "", "PUT /location/1": "admin", "DELETE /location/1": "admin",
    "GET /special-badges": "", "POST /emails": "", "POST /email/send-feedback": "", "GET /email/random/1": "",
}  # fmt: skip
"""All that the original's API answers, and the role that is needed here; with `user` any."""


def test_every_endpoint_of_the_original_is_there_and_closed_as_it_must_be(site: RegistrationSite) -> None:
    """403 without a token, 401 with a bad one, 403 with that of a lesser role; before the body is looked at."""
    described = site.call("GET", "/swagger.json").body["paths"]
    operations = {
        f"{method.upper()} {re.sub('{[a-z_]+}', '1', path.removeprefix('/api'))}": one
        for path, methods in described.items()
        for method, one in methods.items()
    }
    assert set(operations) == set(ENDPOINTS)
    assert {name for name, one in operations.items() if "security" in one} == {
        name for name, role in ENDPOINTS.items() if role
    }
    site.ask("add-user", username="ulla", password="a long password", roles=["user"], email="u@example.net")
    ulla = site.call("POST", "/api/login", {"username": "ulla", "password": "a long password"}).body[
        "accessToken"
    ]
    moderator = site.login("moderator").body["accessToken"]
    for name, role in ENDPOINTS.items():
        method, path = name.split(" ")
        if not role:
            body = None if method == "GET" else {}
            assert site.call(method, f"/api{path}", body).status in (200, 400), name
            continue
        bare = site.call(method, f"/api{path}")
        assert (bare.status, bare.body) == (403, {"message": "No token provided!"}), name
        bad = site.call(method, f"/api{path}", {}, token="not.a.token")
        assert (bad.status, bad.body) == (401, {"message": "Unauthorized!"}), name
        lesser = {"admin": moderator, "moderator": ulla}.get(role)
        if lesser:
            said = {"admin": "Require Admin Role!", "moderator": "Require Moderator or Admin Role!"}[role]
            told = site.call(method, f"/api{path}", {}, token=lesser)
            assert (told.status, told.body) == (403, {"message": said}), name


def test_what_is_not_there_is_answered_as_the_original_does(site: RegistrationSite) -> None:
    """Reading: 400 and a text; changing and removing: 400 and an empty error; never 404."""
    admin = site.login("admin").body["accessToken"]
    for name in ENDPOINTS:
        method, path = name.split(" ")
        if not path.endswith("/1") or "random" in path:
            continue
        answer = site.call(method, f"/api{path[:-1]}7777", None if method == "GET" else {}, token=admin)
        noun = path.split("/")[1].removesuffix("s").capitalize()
        expected: Any = f"{noun} Not Found" if method == "GET" else {"error": {}}
        assert (answer.status, answer.body) == (400, expected), name


def test_workshops_are_listed_changed_and_removed(site: RegistrationSite) -> None:
    """All of the original's columns and `popular`, in the order of priority; texts for numbers are taken."""
    made = site.call(
        "POST", "/api/workshop", {"name": "Rust 101", "priority": "0", "active": "false"}, role="admin"
    )
    assert made.status == 200
    listed = site.call("GET", "/api/workshops")
    assert [one["name"] for one in listed.body] == ["Rust 101", "Python 101"]
    columns = [
        "id",
        "name",
        "notebook",
        "description",
        "active",
        "capacity",
        "priority",
        "range",
        "reset",
        "ldap",
        "sessionId",
        "sessionType",
        "location",
        "avatar",
        "role",
        "presenter",
        "preRequisite",
        "replayLink",
        "compile",
        "varpass",
        "replayId",
        "workshopImg",
        "badgeImg",
        "monoappliance",
        "multiappliance",
        "beta",
        "category",
        "alternateLocation",
        "duration",
        "createdAt",
        "updatedAt",
        "popular",
    ]
    assert set(listed.body[0]) == set(columns)
    assert listed.body[1]["range"] == [1, 20] and listed.body[1]["duration"] == 2
    assert [one["name"] for one in site.call("GET", "/api/workshops?active=true").body] == ["Python 101"]
    assert [one["name"] for one in site.call("GET", "/api/workshops?active=false").body] == ["Rust 101"]
    assert len(site.call("GET", "/api/workshopsBeta", role="moderator").body) == 2
    number = listed.body[1]["id"]
    assert site.call("GET", f"/api/workshops/{number}").body["notebook"] == "WKSHP-Python101"
    changed = site.call("PUT", f"/api/workshop/{number}", {"capacity": "17", "nonsense": 1}, role="moderator")
    assert (changed.status, changed.body["capacity"]) == (200, 17)
    assert site.call("DELETE", f"/api/workshop/{number}", role="admin").body == {}
    for path in (f"/api/workshops/{number}", "/api/workshops/x", "/api/workshops/99999999999"):
        missing = site.call("GET", path)
        assert (missing.status, missing.body) == (400, "Workshop Not Found")
    for method in ("PUT", "DELETE"):
        gone = site.call(method, f"/api/workshop/{number}", {}, role="admin")
        assert (gone.status, gone.body) == (400, {"error": {}})
    assert site.call("POST", "/api/workshop", {}, role="admin").status == 400


def test_students_are_listed_without_passwords(site: RegistrationSite) -> None:
    """The url of a seat as existing pages build it, the password null whatever was said."""
    listed = site.call("GET", "/api/students", role="moderator").body
    assert len(listed) == 120
    assert set(listed[0]) == {
        "id",
        "url",
        "username",
        "password",
        "assigned",
        "location",
        "createdAt",
        "updatedAt",
    }
    assert listed[0]["url"] == "http://one.example.net:8000/user/student1/lab?"
    assert listed[60] | {"createdAt": 0, "updatedAt": 0} == {
        "id": 61, "url": "https://two.example.net:8443/user/student1/lab?", "username": "student1", "password": None,
        "assigned": False, "location": "two.example.net", "createdAt": 0, "updatedAt": 0,
    }  # fmt: skip
    told = site.call("PUT", "/api/student/3", {"password": "a-secret", "assigned": "true"}, role="moderator")
    assert (told.status, told.body["password"], told.body["assigned"]) == (200, None, True)
    assert site.call("GET", "/api/students/3", role="moderator").body["assigned"] is True
    assert "a-secret" not in "".join(site.sql("SELECT students::text FROM students"))
    assert site.call("GET", "/api/students/999", role="moderator").body == "Student Not Found"
    made = site.call("POST", "/api/student", {"username": "student200", "location": "x"}, role="admin")
    assert made.status == 200
    assert site.call("DELETE", f"/api/student/{made.body['id']}", role="admin").body == {}


def test_a_registration_is_answered_as_portals_expect(site: RegistrationSite) -> None:
    """Number, title-cased name, address, the database's number of the seat; where and what come from the workshop."""
    answer = site.register("Ada@Example.net")
    assert (answer.status, answer.body) == (
        200,
        {"id": 1, "name": "Ada Lovelace", "email": "ada@example.net", "studentId": 1, "proxy": "wod"},
    )
    row = site.call("GET", "/api/customers/1", role="moderator").body
    columns = [
        "id",
        "name",
        "email",
        "company",
        "sessionName",
        "sessionType",
        "location",
        "notebook",
        "active",
        "cleaned",
        "lastEmailSent",
        "hours",
        "startDate",
        "endDate",
        "studentId",
        "proxy",
        "specialBadgeId",
        "completionPercentage",
        "createdAt",
        "updatedAt",
    ]
    assert set(row) == set(columns)
    assert (row["location"], row["notebook"]) == ("one.example.net", "WKSHP-Python101")
    assert site.call("GET", "/api/workshops").body[0]["capacity"] == 19
    assert site.call("GET", "/api/students/1", role="moderator").body["assigned"] is True
    again = site.register("a.d.a+2@example.net".replace("a.d.a", "ADA"))
    assert again.status == 202
    assert again.body == {"id": 1, "title": "Python 101", "endDate": row["endDate"]}
    assert again.headers["x-wod-reason"] == "already-registered"


@pytest.mark.parametrize(
    "address",
    ["123.456@gmail.com", "x@mailinator.com", "x@1secmail.com", "mailstop@example.net", "none", "a@b\r\nRCPT TO:<c@d>",
     "a b@example.net", "\"a\\nb\"@example.net", "<a@example.net>", "a@example.net,b@example.net"],
)  # fmt: skip
def test_addresses_that_are_not_wanted_are_dropped_silently(site: RegistrationSite, address: str) -> None:
    """200 and nothing, and nothing is stored."""
    answer = site.register(address)
    assert (answer.status, answer.body) == (200, "")
    assert site.sql("SELECT count(*) FROM customers") == ["0"]


def test_without_a_seat_the_answer_says_why(site: RegistrationSite) -> None:
    """202 with a text and a reason of its own; 400 for an unknown title and for terms not accepted."""
    site.fresh(workshop("Full", 1, 2, capacity=0), workshop("Closed", 1, 2, active=False),
               workshop("Nowhere", 500, 510), workshop("Python 101", 1, 1, capacity=9))  # fmt: skip
    site.sql(
        "UPDATE workshops SET location = 'gone.example.net', \"alternateLocation\" = NULL WHERE name = 'Nowhere'"
    )
    answers = {
        title: site.register("a@example.net", title) for title in ("Full", "Closed", "Nowhere", "No such")
    }
    assert {title: answer.status for title, answer in answers.items()} == {
        "Full": 202, "Closed": 202, "Nowhere": 202, "No such": 400,
    }  # fmt: skip
    assert [answers[title].headers["x-wod-reason"] for title in answers] == [
        "full", "closed", "no-location", "no-workshop",
    ]  # fmt: skip
    assert answers["Full"].body.startswith("Registration full, capacity exceeded")
    assert site.register("a@example.net", termsAndConditions=False).status == 400
    assert [site.register(f"a{n}@example.net").status for n in range(3)] == [200, 200, 202]
    assert site.register("b@example.net").headers["x-wod-reason"] == "no-seat"
    assert site.sql('SELECT "studentId" FROM customers ORDER BY id') == ["1", "61"]


def test_a_backend_tells_what_became_of_a_participant(site: RegistrationSite) -> None:
    """active, cleaned and completionPercentage, as texts; other columns stay."""
    site.register("ada@example.net")
    told = {
        "active": "true",
        "completionPercentage": "70",
        "cleaned": "true",
        "lastEmailSent": "expired",
        "email": "x",
    }
    answer = site.call("PUT", "/api/customer/1", told, role="moderator")
    assert answer.status == 200
    values = [
        answer.body[name] for name in ("active", "completionPercentage", "cleaned", "lastEmailSent", "email")
    ]
    assert values == [True, 70, True, None, "ada@example.net"]
    assert (
        site.call("PUT", "/api/customer/1", {"completionPercentage": "101"}, role="moderator").status == 400
    )
    assert site.call("PUT", "/api/customer/7", {"active": "true"}, role="moderator").body == {"error": {}}


def test_unregistering_and_deleting_give_the_place_back(site: RegistrationSite) -> None:
    """Unregistered: to be ended now. Deleted before the backend heard of him: seat and place are free at once."""
    site.register("ada@example.net")
    answer = site.call("PUT", "/api/customer/unregister/1", role="moderator")
    assert (answer.status, answer.body["active"], answer.body["lastEmailSent"]) == (200, False, "unregister")
    assert site.register("ada@example.net").status == 200
    assert site.call("DELETE", "/api/customer/2", role="admin").body == {}
    assert site.call("GET", "/api/students/2", role="moderator").body["assigned"] is False
    assert site.call("GET", "/api/workshops").body[0]["capacity"] == 19


def test_users_are_made_by_admins_and_never_shown_with_hashes(site: RegistrationSite) -> None:
    """Duplicates and unknown roles are 400 with a message; a changed password is a hash too."""
    said = {
        "username": "bob",
        "email": "bob@example.net",
        "password": "long enough for us",
        "roles": ["moderator"],
    }
    made = site.call("POST", "/api/user", said, role="admin")
    assert (made.status, made.body) == (200, {"message": "User was registered successfully!"})
    for wrong in (
        {},
        {"username": "eve"},
        {"username": "eve", "email": "eve@example.net", "roles": ["root"]},
    ):
        assert site.call("POST", "/api/user", said | wrong, role="admin").status == 400
    listed = site.call("GET", "/api/users", role="admin").body
    bob = next(one for one in listed if one["username"] == "bob")
    assert "password" not in bob and bob["roles"] == ["moderator"]
    site.call("PUT", f"/api/user/{bob['id']}", {"password": "another long one"}, role="admin")
    assert site.call("POST", "/api/login", {"username": "bob", "password": "another long one"}).status == 200
    assert site.call("GET", f"/api/users/{bob['id']}", role="admin").status == 200
    assert site.call("DELETE", f"/api/user/{bob['id']}", role="admin").body == {}
    assert site.call("GET", f"/api/users/{bob['id']}", role="admin").body == "User Not Found"


def test_locations_badges_and_mail_routes(site: RegistrationSite) -> None:
    """Locations are read by all and written by admins; mailing lists are 400; feedback goes to the operators."""
    listed = site.call("GET", "/api/locations").body
    assert [(one["name"], one["basestdid"], one["port"]) for one in listed] == [
        ("one.example.net", 0, "8000"), ("two.example.net", 60, "8443"),
    ]  # fmt: skip
    assert site.call("GET", "/api/location/1").body["name"] == "one.example.net"
    assert site.call("GET", "/api/location/9").body == "Location Not Found"
    assert site.call("PUT", "/api/location/2", {"port": "443"}, role="admin").body["port"] == "443"
    assert site.call("DELETE", "/api/location/2", role="admin").body == {}
    assert [one["name"] for one in site.call("GET", "/api/special-badges").body][4] == "Legend"
    assert site.call("POST", "/api/emails", {"email": "a@example.net"}).status == 400
    assert site.call("GET", "/api/email/random/17").status == 400
    sent = site.call(
        "POST", "/api/email/send-feedback", {"email": "a@example.net", "message": "Fine!", "proxy": "wod"}
    )
    assert (sent.status, sent.body) == (200, "email sent successfully")
    assert site.sql("SELECT recipient FROM outbox") == ["wodadmin@localhost"]


def test_the_api_describes_itself(site: RegistrationSite) -> None:
    """OpenAPI 3 for programs, a page for people."""
    described = site.call("GET", "/swagger.json").body
    assert described["openapi"].startswith("3.")
    assert "/api/customer/unregister/{number}" in described["paths"]
    operations = [one for methods in described["paths"].values() for one in methods.values()]
    assert not [one["operationId"] for one in operations if "422" in one["responses"]]
    page = site.call("GET", "/api/docs")
    assert page.status == 200 and ">PUT</span> /api/student/{number}" in page.body
    assert site.call("GET", "/").body == {"hello": "hi!"}


def test_pages_of_the_portal_may_call_and_others_may_not(site: RegistrationSite) -> None:
    """CORS names the origin of the portal only."""
    for origin, allowed in (("http://portal.example.net:8000", True), ("http://evil.example.net", False)):
        answer = site.call("GET", "/api/workshops", origin=origin)
        assert (answer.headers.get("access-control-allow-origin") == origin) is allowed


# --- Seats are given once ---


def test_two_hundred_at_once_for_twenty_seats_are_exactly_twenty(site: RegistrationSite) -> None:
    """Twenty different seats, no capacity below nothing, all others are told that it is full."""
    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda n: site.register(f"p{n}@example.net"), range(200)))
    assert Counter(answer.status for answer in answers) == {200: 20, 202: 180}
    assert len({answer.body["studentId"] for answer in answers if answer.status == 200}) == 20
    assert site.sql("SELECT capacity FROM workshops") == ["0"]


def test_one_person_who_clicks_often_gets_one_seat(site: RegistrationSite) -> None:
    """Thirty at once for one address: one registration."""
    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda n: site.register(f"ada+{n}@example.net"), range(30)))
    assert Counter(answer.status for answer in answers) == {200: 1, 202: 29}
    assert {answer.body["id"] for answer in answers} == {1}


def test_overlapping_workshops_share_no_seat(site: RegistrationSite) -> None:
    """Two workshops over the same seats, asked for at the same time: each seat is given once."""
    site.fresh(workshop("A", 1, 30), workshop("B", 1, 30))
    site.sql("DELETE FROM students WHERE id > 30")
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda n: site.register(f"p{n}@example.net", "AB"[n % 2]), range(100)))
    given = [answer.body["studentId"] for answer in answers if answer.status == 200]
    assert sorted(given) == list(range(1, 31))


def test_of_five_hundred_in_a_burst_as_many_are_let_in_as_there_are_places(site: RegistrationSite) -> None:
    """Ten portals' connections at full speed: no seat twice, every place given. `wodctl bench` says how quickly."""
    site.fresh(workshop("Python 101", 1, 60, capacity=120))
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda number: site.register(f"p{number}@example.net").status, range(500)))
    assert Counter(answers) == {200: 120, 202: 380}
    assert site.sql('SELECT count(DISTINCT "studentId"), count(*) FROM customers') == ["120|120"]


# --- Attacks ---


def test_a_role_in_a_body_is_nothing(site: RegistrationSite) -> None:
    """Nobody makes himself an admin, by a registration or as a moderator."""
    answer = site.register(
        "ada@example.net", roles=["admin"], roleId=3, id=77, studentId=9, active=True, sealed="x"
    )
    assert (answer.body["id"], answer.body["studentId"]) == (1, 1)
    assert site.sql("SELECT active FROM customers") == ["f"]
    before = site.sql('SELECT * FROM user_roles ORDER BY "userId"')
    said = {"username": "eve", "email": "e@example.net", "password": "long enough for us", "roles": ["admin"]}
    assert site.call("POST", "/api/user", said).status == 403
    assert site.call("POST", "/api/user", said, role="moderator").status == 403
    assert site.call("PUT", "/api/user/1", {"roles": ["admin"]}, role="moderator").status == 403
    assert site.sql('SELECT * FROM user_roles ORDER BY "userId"') == before


def test_forged_and_expired_tokens_are_refused(site: RegistrationSite) -> None:
    """The original's known key, no algorithm, another's number in a good token, yesterday's: 401."""
    import base64
    import hashlib
    import hmac

    def made(head: dict, claims: dict, key: bytes) -> str:
        parts = [base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=") for one in (head, claims)]
        mark = hmac.new(key, b".".join(parts), hashlib.sha256).digest()
        return b".".join([*parts, base64.urlsafe_b64encode(mark).rstrip(b"=")]).decode()

    now, key = int(time.time()), (site.state / "secrets/api-db/token-key").read_bytes()
    head = {"alg": "HS256", "typ": "JWT"}
    good = {"id": 2, "iat": now, "exp": now + 100, "aud": "api"}
    assert site.call("GET", "/api/users", token=made(head, good, key)).status == 200
    real = site.login("moderator").body["accessToken"].split(".")
    forged = [
        made(head, good, b"workshops-secret-key"),
        made({"alg": "none"}, good, key).rsplit(".", 1)[0] + ".",
        made(head, good | {"exp": now - 1}, key),
        made(head, good | {"aud": "console"}, key),
        made(head, {"id": 2, "aud": "api"}, key),
        made(head, good | {"id": "2 OR 1=1"}, key),
        made(head, good | {"id": 9999}, key),
        ".".join([real[0], made(head, good, key).split(".")[1], real[2]]),
    ]
    assert [site.call("GET", "/api/users", token=token).status for token in forged] == [401] * len(forged)


def test_a_mere_user_sees_and_ends_his_own_registration_only(site: RegistrationSite) -> None:
    """Another's is not found, and goes on."""
    site.register("ada@example.net")
    site.register("bob@example.net")
    site.ask(
        "add-user", username="ada", password="long enough for us", roles=["user"], email="Ada@example.net"
    )
    token = site.call("POST", "/api/login", {"username": "ada", "password": "long enough for us"}).body[
        "accessToken"
    ]
    assert [one["id"] for one in site.call("GET", "/api/customers", token=token).body] == [1]
    assert site.call("GET", "/api/customers/2", token=token).status == 400
    assert site.call("PUT", "/api/customer/unregister/2", token=token).status == 400
    assert site.sql('SELECT "lastEmailSent" IS NULL FROM customers WHERE id = 2') == ["t"]
    assert site.call("PUT", "/api/customer/unregister/1", token=token).status == 200


NASTY = [
    'Ada\'s "own" \\',
    "'; DROP TABLE customers; --",
    "' OR '1'='1",
    "\\'; SELECT pg_sleep(9)--",
    "%s %(x)s {0} {x!r}",
    "$1",
    "\x00",
    "\ud800",
]


@pytest.mark.parametrize("text", NASTY)
def test_sql_in_any_field_is_a_text(site: RegistrationSite, text: str) -> None:
    """In each field of each call that has a body: stored as it is, or refused; never carried out, never our error."""
    admin = site.login("admin").body["accessToken"]
    said = {"username": "mallory", "email": "m@example.net", "password": "long enough for us"}
    assert site.call("POST", "/api/user", said, token=admin).status == 200
    number = next(
        one["id"] for one in site.call("GET", "/api/users", token=admin).body if one["username"] == "mallory"
    )
    described = site.call("GET", "/swagger.json").body
    usual = {"name": "ada", "email": "a@example.net", "title": "Python 101", "termsAndConditions": True,
             "username": "nobody", "password": "long enough for us", "message": "Fine"}  # fmt: skip
    statuses = {}
    for path, methods in described["paths"].items():
        where = path.replace("{number}", str(number) if "/user/" in path else "1")
        for method, operation in methods.items():
            if "requestBody" not in operation:
                continue
            (body,) = operation["requestBody"]["content"].values()
            fields = described["components"]["schemas"][body["schema"]["$ref"].rpartition("/")[2]][
                "properties"
            ]
            for field in fields:
                known = {name: value for name, value in usual.items() if name in fields}
                answer = site.call(method.upper(), where, known | {field: text}, token=admin)
                statuses[f"{method} {path} {field}"] = answer.status
    assert len(statuses) > 70
    assert not {call: status for call, status in statuses.items() if status >= 500}
    assert site.sql("SELECT count(*) FROM students WHERE id <= 120") == ["120"]
    for role in ("moderator", "admin"):
        password = (site.state / f"secrets/api-db/{role}-password").read_text()
        tried = site.call("POST", "/api/login", {"username": text, "password": password})
        assert tried.status in (400, 401, 404)
        assert site.login(role).status == 200
    site.fresh()
    answer = site.register("b@example.net", company=text)
    assert answer.status == (400 if text in ("\x00", "\ud800") else 200)
    if answer.status == 200:
        assert site.call("GET", f"/api/customers/{answer.body['id']}", token=admin).body["company"] == text


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\u2028"])
def test_line_ends_get_into_no_header(site: RegistrationSite, end: str) -> None:
    """In whatever goes into a mail: refused, or dropped as an address that is none, and nothing is written."""
    smuggled = f"Ada{end}Bcc: victim@example.net"
    for field in ("name", "company", "title", "sessionType", "proxy"):
        assert site.register("a@example.net", **{field: smuggled}).status == 400, field
    assert site.register(f"a@example.net{end}Bcc: victim@example.net").body == ""
    said = {"email": f"a@example.net{end}Bcc: v@example.net", "message": "Fine"}
    assert site.call("POST", "/api/email/send-feedback", said).status == 400
    assert site.sql("SELECT (SELECT count(*) FROM customers) + (SELECT count(*) FROM outbox)") == ["0"]


def test_large_and_broken_bodies_are_refused(site: RegistrationSite) -> None:
    """10 MB are 413 before they are read; what is no JSON, or not an object, is 400."""
    large = b'{"name": "' + b"x" * 10_000_000 + b'"}'
    with contextlib.suppress(OSError):  # it may hang up on us in the middle of them
        assert site.call("POST", "/api/customer", large).status == 413
    for body in (b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"title": 1e999}'):
        assert site.call("POST", "/api/customer", body).status == 400, body[:20]
    assert site.call("GET", "/health").status == 200


def test_a_login_takes_as_long_for_an_unknown_user(site: RegistrationSite) -> None:
    """Who does not know a name does not learn it from the time."""

    def median(name: str) -> float:
        times = []
        for _ in range(15):
            begun = time.monotonic()
            site.call("POST", "/api/login", {"username": name, "password": "x"})
            times.append(time.monotonic() - begun)
            site.login("admin")  # a right one in between, so that nobody has to pause
        return statistics.median(times)

    known, unknown = median("moderator"), median("nobody-of-this-name")
    assert abs(known - unknown) < 0.5 * max(known, unknown), (known, unknown)


def test_who_guesses_passwords_has_to_pause(site: RegistrationSite) -> None:
    """After five wrong ones in a row: 429 with a time to wait."""
    statuses = [
        site.call("POST", "/api/login", {"username": "hackshack", "password": str(n)}).status
        for n in range(8)
    ]
    assert statuses[:5] == [401] * 5 and statuses[-1] == 429
    time.sleep(4)
    assert site.login("admin").status == 200


def test_the_catalogue_is_brought_up_to_date_without_touching_seats_in_use(site: RegistrationSite) -> None:
    """New, changed, renamed, removed; capacity and who sits stay; the second time changes nothing."""
    site.register("ada@example.net")
    given = [workshop("Python 101", 1, 20, description="New text", capacity=50), workshop("Git 101", 21, 30)]
    report = site.ask("update-catalogue", backends=BACKENDS, workshops=given)
    assert report["new"] == ["Git 101"] and report["changed"] == ["Python 101 (description)"]
    assert site.sql("SELECT capacity FROM workshops WHERE name = 'Python 101'") == ["19"]
    assert site.ask("update-catalogue", backends=BACKENDS, workshops=given)["changed"] == []
    given[0]["name"] = "Python for all"
    assert site.ask("update-catalogue", backends=BACKENDS, workshops=given)["changed"] == [
        "Python for all (name)"
    ]
    fewer = [BACKENDS[0] | {"last": 40}]
    report = site.ask("update-catalogue", backends=fewer, workshops=given[1:])
    assert report["removed"] == ["Python for all"]
    assert site.sql("SELECT count(*), count(*) FILTER (WHERE assigned) FROM students") == ["40|1"]
    assert site.sql("SELECT name FROM locations") == ["one.example.net"]
    assert site.sql("SELECT holder FROM students WHERE assigned") == ["1"]
