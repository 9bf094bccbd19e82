"""Bans as strangers meet them: two addresses of their own, by way of the published ports, into a running stack."""

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.conftest import Stack, docker

MARK = f"b{os.getpid() % 100000:05d}"
THIRD = os.getpid() % 250

# What a stranger's program does: `connect` says how a port answers, `hammer` gives so many wrong passwords for so many
# seats, `miss` asks for pages that are not there, `hold` keeps a connection and tells when it ends.
STRANGER = """
import http.client, re, socket, sys, time
what, host, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
if what == "connect":
    try:
        with socket.create_connection((host, port), 3) as connection:
            connection.settimeout(3)
            if count:
                connection.recv(count)
            print("served")
    except OSError as problem:
        print(type(problem).__name__)
elif what == "hold":
    with socket.create_connection((host, port), 3) as connection:
        print("held", flush=True)
        for _ in range(300):
            try:
                connection.sendall(b"GET /hub/health HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
                if not connection.recv(4096):
                    break
            except OSError:
                break
            time.sleep(0.1)
    print("ended", flush=True)
else:
    connection = http.client.HTTPConnection(host, port, timeout=30)
    connection.request("GET", "/hub/login")
    answer = connection.getresponse()
    page = answer.read().decode()
    word = re.search(r'name="_xsrf" value="([^"]+)"', page)[1]
    cookie = "; ".join(line.split(";")[0] for line in answer.headers.get_all("Set-Cookie"))
    seen = []
    for number in range(count):
        if what == "miss":
            connection.request("GET", f"/favicon-{number}.ico" if number % 2 else f"/hub/nothing/{number}")
        else:
            body = f"_xsrf={word}&username=student{11 + number % int(sys.argv[5])}&password=wrong{number}"
            kind = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": cookie}
            connection.request("POST", "/hub/login", body, kind)
        answer = connection.getresponse()
        answer.read()
        seen.append(answer.status)
    print(" ".join(str(status) for status in sorted(set(seen))))
"""


@dataclass(frozen=True)
class Client:
    """A machine outside: a network namespace with an address of its own, and the host's address on the way to it."""

    name: str
    address: str
    host: str

    def start(self, *words: object) -> subprocess.Popen[str]:
        arguments = ["ip", "netns", "exec", self.name, "python3", "-c", STRANGER, *map(str, words)]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)

    def does(self, what: str, port: int, *counts: int) -> str:
        process = self.start(what, self.host, port, *counts)
        return process.communicate(timeout=120)[0].strip()

    def answer(self, port: int) -> str:
        """`served`, or the name of the error: ConnectionRefusedError is what a closed port gives."""
        return self.does("connect", port, 0)


def ip(*words: str, check: bool = True) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


@pytest.fixture(scope="module")
def clients() -> Iterator[list[Client]]:
    """Two strangers, each at the end of a line of his own."""
    made = [Client(f"{MARK}{n}", f"10.98.{THIRD}.{4 * n + 2}", f"10.98.{THIRD}.{4 * n + 1}") for n in (0, 1)]
    try:
        for client in made:
            ip("netns", "add", client.name)
            ip("link", "add", client.name, "type", "veth", "peer", "name", "eth0", "netns", client.name)
            ip("address", "add", f"{client.host}/30", "dev", client.name)
            ip("link", "set", client.name, "up")
            inside = ("-netns", client.name)
            ip(*inside, "address", "add", f"{client.address}/30", "dev", "eth0")
            ip(*inside, "link", "set", "eth0", "up")
            ip(*inside, "route", "add", "default", "via", client.host)
        yield made
    finally:
        for client in made:
            ip("netns", "delete", client.name, check=False)
            ip("link", "delete", client.name, check=False)


@pytest.fixture(autouse=True)
def amnesty(stack: Stack, clients: list[Client]) -> Iterator[None]:
    """Nobody is banned at the end of a test."""
    yield
    for client in clients:
        stack.wodctl("ban", "remove", client.address, check=False)
        wait_until(lambda client=client: client.answer(stack.port) == "served")


def wait_until(promise: Callable[[], bool], seconds: float = 60) -> float:
    """Wait until it is so; returns how many seconds that took."""
    began = time.monotonic()
    while not promise():
        assert time.monotonic() - began < seconds, f"It was not so within {seconds} s."
        time.sleep(0.1)
    return time.monotonic() - began


def banned(stack: Stack) -> dict[str, str]:
    """The addresses that are banned, and by whom."""
    return {one["address"]: one["jail"] for one in json.loads(stack.wodctl("ban", "list", "--json").stdout)}


def test_who_hammers_the_login_is_refused_and_others_are_served(stack: Stack, clients: list[Client]) -> None:
    """By TCP, at each port; an open connection ends as well. Restarts and `up` change nothing, a removal does."""
    guesser, neighbour = clients
    held = guesser.start("hold", guesser.host, stack.port, 0)
    assert held.stdout and held.stdout.readline() == "held\n"
    assert guesser.does("hammer", stack.port, 120, 1) == "403 429"
    seconds = wait_until(lambda: guesser.answer(stack.port) == "ConnectionRefusedError")
    print(f"refused {seconds:.1f} s after the last try")
    assert guesser.answer(stack.mail_port) == "ConnectionRefusedError"
    assert held.communicate(timeout=60)[0] == "ended\n"
    assert neighbour.answer(stack.port) == "served"
    assert banned(stack) == {guesser.address: "login"}

    for service in ("fail2ban", "firewall"):
        docker("restart", stack.container(service))
        assert guesser.answer(stack.port) == "ConnectionRefusedError", f"{service} has come back"
    stack.wodctl("up")
    assert guesser.answer(stack.port) == "ConnectionRefusedError"
    assert banned(stack) == {guesser.address: "login"}

    stack.wodctl("ban", "remove", guesser.address)
    wait_until(lambda: guesser.answer(stack.port) == "served")
    assert banned(stack) == {}


def test_a_stranger_who_knocks_at_the_action_port_is_banned(stack: Stack, clients: list[Client]) -> None:
    stranger, neighbour = clients
    for _ in range(10):
        stranger.does("connect", stack.mail_port, 100)
    wait_until(lambda: stranger.answer(stack.mail_port) == "ConnectionRefusedError")
    assert banned(stack) == {stranger.address: "mail"}
    assert neighbour.answer(stack.port) == "served"


def test_typing_errors_and_broken_links_are_no_attack(stack: Stack, clients: list[Client]) -> None:
    """A class behind one address with two errors for each seat; one who does not give in, as often as the pauses let a
    person; a hundred pages that are not there."""
    _, school = clients  # who has given no wrong password yet
    assert school.does("hammer", stack.port, 40, 20) == "403"
    assert school.does("hammer", stack.port, 24, 1) == "403 429"
    assert school.does("miss", stack.port, 100) == "302 404"
    time.sleep(6)
    assert school.answer(stack.port) == "served"
    assert banned(stack) == {}


def test_this_host_portals_and_whom_the_site_trusts_are_never_banned(
    stack: Stack, clients: list[Client]
) -> None:
    """However they behave, and by hand neither: by the engine's own proxy, programs of this host are its gateway."""
    operator, _ = clients
    here = Client(operator.name, "127.0.0.1", "127.0.0.1")
    words = ["python3", "-c", STRANGER, "hammer", "127.0.0.1", str(stack.port), "120", "1"]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip() == "403 429"
    settings = stack.state / "conf/production.yml"
    settings.write_text(f"WODBANNEVER: [{operator.address}]\n")
    try:
        stack.wodctl("up")
        assert operator.does("hammer", stack.port, 120, 1) == "403 429"
        refused = stack.wodctl("ban", "add", operator.address, check=False)
        assert refused.returncode == 2 and "never banned" in refused.stderr
        # And if the service that bans were taken over:
        docker("exec", stack.container("fail2ban"), "wod-ban", "add", "x", operator.address, "0", "-1")
        time.sleep(6)
        assert operator.answer(stack.port) == "served"
        docker("exec", stack.container("fail2ban"), "wod-ban", "remove", "x", operator.address)
    finally:
        settings.unlink()
        stack.wodctl("up")
    assert banned(stack) == {}
    with socket.create_connection((here.host, stack.port), 3):
        pass
    gateway = "{{(index .IPAM.Config 0).Gateway}}"
    edge = docker("network", "inspect", "--format", gateway, f"{stack.project}_edge").strip()
    refused = stack.wodctl("ban", "add", edge, check=False)
    assert refused.returncode == 2 and "this host's own" in refused.stderr


def test_the_operator_bans_by_hand(stack: Stack, clients: list[Client]) -> None:
    nuisance, neighbour = clients
    said = stack.wodctl("ban", "add", nuisance.address).stdout
    assert re.search(r"is banned until `wodctl ban remove", said)
    wait_until(lambda: nuisance.answer(stack.port) == "ConnectionRefusedError")
    assert neighbour.answer(stack.port) == "served"
    assert nuisance.address in stack.wodctl("ban", "list").stdout
