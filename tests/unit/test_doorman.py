"""The doorman: which pass opens which seat, what it says to whom it does not know, and where it stands."""

import json
import sys
from http import HTTPStatus
from typing import Any

import pytest

from tests.conftest import ROOT
from wodctl.model import brand, seat_pass

sys.path.insert(0, str(ROOT / "images" / "doorman"))
sys.path.insert(0, str(ROOT / "images" / "hub"))

from wod_doorman.away import SENTENCES, headers, page
from wod_doorman.door import Unreadable, judge, read, written
from wod_hub.guard import guarded

KEY = "key-of-the-tests"
NOW = 1_800_000_000.0
GOOD = seat_pass.issue(KEY, "student3", NOW + 60)
PAGE = {
    "x-forwarded-method": "GET",
    "x-forwarded-uri": "/user/student3/lab?a=1&b=2",
    "accept": "text/html,*/*",
}


def asked(target: str = "/student3", **headers: str) -> tuple[HTTPStatus, dict[str, str]]:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return judge(KEY, target, named, NOW)


def test_a_pass_opens_its_seat() -> None:
    """With a pass of its own a browser is let through."""
    assert asked(cookie=f"wod-seat={GOOD}") == (HTTPStatus.OK, {})


@pytest.mark.parametrize(
    ("word", "target"),
    [
        (GOOD, "/student4"),
        (GOOD, "/student33"),
        (GOOD, "/student"),
        (GOOD, "/"),
        (GOOD, "/student3/"),
        (GOOD.replace("student3", "student4"), "/student4"),
        (GOOD.replace(str(int(NOW + 60)), str(int(NOW + 6000))), "/student3"),
        (seat_pass.issue(KEY, "student3", NOW), "/student3"),
        (seat_pass.issue("another key", "student3", NOW + 60), "/student3"),
        (GOOD[:-1], "/student3"),
        (GOOD + "0", "/student3"),
        (GOOD.upper(), "/student3"),
        (GOOD.partition(".")[0], "/student3"),
        (f'"{GOOD}"', "/student3"),
        ("", "/student3"),
    ],
)
def test_no_other_pass_opens_it(word: str, target: str) -> None:
    """A pass of another seat, one that has ended, and whatever was changed in one, open nothing."""
    assert asked(target, cookie=f"wod-seat={word}")[0] == HTTPStatus.FORBIDDEN


def test_two_passes_open_nothing() -> None:
    """Whoever can lay a cookie of his own beside the hub's does not get in by it."""
    other = seat_pass.issue(KEY, "student4", NOW + 60)
    assert asked(cookie=f"wod-seat={other}; wod-seat={GOOD}")[0] == HTTPStatus.FORBIDDEN
    assert asked(cookie=f"wod-seat={GOOD}; wod-seat={GOOD}")[0] == HTTPStatus.FORBIDDEN


def test_the_seats_server_does_not_see_the_pass() -> None:
    """The cookies that go on to the server are the others."""
    status, headers = asked(cookie=f"_xsrf=a=b; wod-seat={GOOD}; jupyterhub-user-student3=x")
    assert (status, headers) == (HTTPStatus.OK, {"Cookie": "_xsrf=a=b; jupyterhub-user-student3=x"})


def test_a_page_leads_to_the_login_and_back() -> None:
    """A browser without a pass that wants to show a page gets the login, which knows the way back."""
    status, headers = judge(KEY, "/student3", PAGE, NOW)
    assert status == HTTPStatus.FOUND
    assert headers == {"Location": "/hub/login?next=%2Fuser%2Fstudent3%2Flab%3Fa%3D1%26b%3D2"}
    status, headers = judge(KEY, "/student3", PAGE | {"x-forwarded-uri": "//evil.example/"}, NOW)
    assert headers == {"Location": "/hub/login?next=%2Fuser%2Fstudent3%2F"}


@pytest.mark.parametrize(
    "change",
    [
        {"x-forwarded-method": "POST"},
        {"sec-fetch-mode": "no-cors"},
        {"sec-fetch-mode": "websocket"},
        {"accept": "*/*"},
    ],
)
def test_what_a_page_loads_is_refused(change: dict[str, str]) -> None:
    """Scripts, pictures, calls and websockets without a pass are refused."""
    assert judge(KEY, "/student3", PAGE | change, NOW) == (HTTPStatus.FORBIDDEN, {})


def test_a_question_is_read_as_it_came() -> None:
    """Names are in small letters, and cookies of two lines are one list."""
    head = b"GET /student3 HTTP/1.1\r\nHost: doorman\r\nCookie: a=1\r\nCOOKIE: b=2\r\nX-Forwarded-Uri: /x"
    target, headers = read(head)
    assert target == "/student3"
    assert headers == {"host": "doorman", "cookie": "a=1; b=2", "x-forwarded-uri": "/x"}


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"POST /student3 HTTP/1.1\r\nHost: doorman",
        b"GET /student3 HTTP/1.0\r\nHost: doorman",
        b"GET http://doorman/student3 HTTP/1.1\r\nHost: doorman",
        b"GET /student3 HTTP/1.1\r\nContent-Length: 5",
        b"GET /student3 HTTP/1.1\r\nTransfer-Encoding: chunked",
        b"GET /student3 HTTP/1.1\r\nCookie : a=1",
        b"GET /student3 HTTP/1.1\r\n Cookie: a=1",
        b"GET /student3 HTTP/1.1\r\nCookie",
    ],
)
def test_what_is_no_question_of_the_proxys_is_refused(head: bytes) -> None:
    """Bodies, other methods and odd lines are not guessed at."""
    with pytest.raises(Unreadable):
        read(head)


def test_an_answer_is_never_kept() -> None:
    """No cache between browser and proxy may remember who was let through."""
    answer = written(HTTPStatus.FORBIDDEN, {})
    assert answer.startswith(b"HTTP/1.1 403 ") and answer.endswith(b"\r\n\r\n")
    assert b"Cache-Control: no-store\r\n" in answer


# --- where it stands: the routes as the hub writes them ---


def routes_to(*prefixes: str) -> dict[str, Any]:
    routers = {f"r{prefix}": {"rule": f"PathPrefix(`{prefix}`)", "service": "s"} for prefix in prefixes}
    return {
        "http": {
            "routers": routers | {"api": {"rule": "PathPrefix(`/api`)", "middlewares": ["auth"]}},
            "middlewares": {"auth": {"basicAuth": {}}, "door_student9": {}},
        },
        "jupyterhub": {"routes": {f"r{prefix}": {"routespec": prefix} for prefix in prefixes}},
    }


def test_the_doorman_stands_before_every_seat() -> None:
    """Each route to a seat has the doorman's question for that seat; the hub's and the API's have none."""
    given = routes_to("/", "/user/student3/", "/user/student12/")
    before = json.dumps(given)
    http = guarded(given)["http"]
    assert json.dumps(given) == before
    assert {name: router.get("middlewares") for name, router in http["routers"].items()} == {
        "r/": ["away_hub"],
        "r/user/student3/": ["away_seat", "door_student3"],
        "r/user/student12/": ["away_seat", "door_student12"],
        "inside_student3": ["away_seat", "door_student3"],
        "inside_student12": ["away_seat", "door_student12"],
        "api": ["auth"],
    }
    assert set(http["middlewares"]) == {"auth", "away_hub", "away_seat", "door_student3", "door_student12"}
    assert http["middlewares"]["door_student3"]["forwardAuth"]["address"] == "http://doorman:8100/student3"


def test_the_worker_comes_by_the_same_door() -> None:
    """Its way to each seat is there once, behind the doorman, also where the former routes are written anew."""
    given = routes_to("/", "/user/student3/")
    given["http"]["routers"]["inside_student9"] = {"rule": "PathPrefix(`/user/student9/`)", "service": "s"}
    routers = guarded(given)["http"]["routers"]
    inside = {name: router for name, router in routers.items() if name.startswith("inside_")}
    assert inside == {"inside_student3": routers["r/user/student3/"] | {"entryPoints": ["inside"]}}
    assert inside["inside_student3"]["middlewares"] == ["away_seat", "door_student3"]


def test_a_route_that_leads_to_no_seat_is_not_written() -> None:
    """There is no way past the doorman by a route that it has no name for."""
    for prefix in ("/services/x/", "/user/", "/user/student3/other/", "/user/Student3/"):
        with pytest.raises(ValueError, match="leads to no seat"):
            guarded(routes_to("/", prefix))


@pytest.mark.parametrize("what", SENTENCES)
def test_the_page_for_who_is_away_runs_nothing_and_shows_the_name_as_text(what: str) -> None:
    """A site's name cannot become markup, and the policy of the page allows its own style alone."""
    shown = page(what, "<script>alert(1)</script>", "#ff8300")
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    style = shown.partition("<style>")[2].partition("</style>")[0]
    assert (
        headers("#ff8300")["Content-Security-Policy"]
        == f"default-src 'none'; style-src {brand.source(style)}"
    )
