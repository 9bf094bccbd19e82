"""Where seats may go outside, on a real network of seats: each by the policy of its workshop, and its appliance too."""

import ipaddress
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import docker
from tests.images.test_firewall import (
    BRIDGE,
    HIS,
    HUB,
    MARK,
    ONE,
    PRIMARY,
    SUBNET,
    TWO,
    Network,
    image,
    mirror,
    network,
    settings,
    wait_until,
)
from wodctl.adapters.egress import Egress
from wodctl.adapters.state import WORKER
from wodctl.errors import ActionFailed, Unavailable
from wodctl.model.appliance import SeatPlan

__all__ = ["network"]

NAME = f"{MARK}-egress"

# What a seat gets by a name, and how long it took to be told that it gets nothing.
BY_NAME = """
import socket, sys, time
began = time.monotonic()
try:
    socket.create_connection((sys.argv[1], 80), 5).close()
    print("reached")
except OSError as problem:
    print(type(problem).__name__, problem, f"{time.monotonic() - began:.1f}", sep="; ")
"""


@dataclass(frozen=True)
class House:
    """The seats' network with the service, and how the worker speaks to it."""

    network: Network
    egress: Egress
    folder: Path

    def rules(self) -> str:
        return docker("exec", NAME, "nft", "list", "table", "ip", BRIDGE)

    def tries(self, who: str, name: str) -> str:
        return docker("exec", f"{MARK}-{who}", "python3", "-c", BY_NAME, name).strip()

    def goes_out(self, who: str) -> bool:
        return self.network.reaches(who, "tcp", mirror(), 80)


def start(folder: Path) -> None:
    """As compose/stack.yml does."""
    docker(
        *("run", "-d", f"--name={NAME}", *settings(BRIDGE), "--entrypoint=tini"),
        *(f"--volume={folder}/kept:/var/lib/egress", f"--volume={folder}/run:/run/egress"),
        *("--health-cmd=wod-egress check", "--health-interval=1s"),
        *(image("firewall"), "--", "wod-egress"),
    )
    wait_until(lambda: docker("inspect", "-f", "{{.State.Health.Status}}", NAME).strip() == "healthy")


@pytest.fixture(scope="module")
def house(network: Network) -> Iterator[House]:
    folder = Path(f"/tmp/{NAME}")
    (folder / "kept").mkdir(parents=True)
    (folder / "run").mkdir()
    os.chown(folder / "run", 0, WORKER)
    (folder / "run").chmod(0o2750)
    plan = SeatPlan("x", ipaddress.IPv4Network(str(SUBNET)), 1, 40, 2000, 2000)
    assert (plan.seat_address(1), plan.seat_address(2), plan.appliance_address(1)) == (ONE, TWO, HIS)
    try:
        start(folder)
        yield House(network, Egress(plan, folder / "run" / "egress.sock"), folder)
    finally:
        docker("rm", "-f", NAME, check=False)
        shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def all_open(house: House) -> None:
    for seat in (1, 2):
        assert house.egress.allow(seat, None) == []


def name_of_mirror() -> str:
    """The name by which this machine knows its mirror of Debian."""
    files = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    texts = "\n".join(file.read_text() for file in files if file.is_file())
    found = re.search(r"^(?:deb .*?|URIs: *)http://([^/:\s]+)/", texts, re.MULTILINE)
    assert found
    return found[1]


def test_none_is_nothing_outside(house: House) -> None:
    """Neither by TCP nor by a ping nor by a name, for seat and appliance; what is theirs inside stays, others are not
    concerned, and the refusal comes at once."""
    assert house.goes_out("one") and house.goes_out("his")
    house.egress.allow(1, [])
    for who in ("one", "his"):
        assert not house.goes_out(who)
        assert not house.network.reaches(who, "ping", mirror())
    said = house.tries("one", mirror()).split("; ")
    assert float(said[-1]) < 1, said
    assert "reached" not in house.tries("one", name_of_mirror())
    assert house.goes_out("two") and house.goes_out("hers")
    assert house.network.reaches("one", "tcp", HUB, 8081)
    assert house.network.reaches("one", "tcp", HIS, 22)
    assert house.network.reaches("proxy", "tcp", ONE, 8888)


def test_a_list_is_only_what_is_in_it(house: House) -> None:
    """By network and by name, which the seat can resolve; every other place is refused."""
    around = str(ipaddress.ip_network(f"{mirror()}/24", strict=False))
    house.egress.allow(1, ["192.0.2.0/24", around])
    assert house.goes_out("one") and house.goes_out("his")
    for other in ("198.51.100.1", "192.88.99.9"):
        assert "Permission" in house.tries("one", other) or "route" in house.tries("one", other)
    house.egress.allow(1, ["192.0.2.0/24"])
    assert not house.goes_out("one")
    assert house.egress.allow(1, [name_of_mirror(), "no-such-name.invalid"]) == ["no-such-name.invalid"]
    assert house.tries("one", name_of_mirror()) == "reached"
    assert not house.network.reaches("one", "ping", "198.51.100.1")


def test_the_next_lease_has_a_policy_of_its_own(house: House) -> None:
    """What the former workshop of a seat was allowed, or forbidden, means nothing any more."""
    house.egress.allow(1, [mirror()])
    house.egress.allow(1, [])
    assert not house.goes_out("one")
    house.egress.allow(1, None)
    assert house.goes_out("one")
    assert ONE not in house.rules() and HIS not in house.rules()


def test_a_list_opens_nothing_that_is_closed_to_all(house: House) -> None:
    """Metadata, the host, services of ours and other seats stay closed, whatever a workshop asks for."""
    house.egress.allow(1, ["0.0.0.0/0"])
    assert house.goes_out("one")
    primary = docker("exec", f"{MARK}-host", "python3", "-c", PRIMARY).strip()
    for address, port in (
        ("169.254.169.254", 80),
        (primary, 22),
        (HUB, 8080),
        (TWO, 8888),
        (house.network.elsewhere, 8000),
    ):
        assert not house.network.reaches("one", "tcp", address, port), address


def test_policies_outlive_the_service(house: House) -> None:
    """Stopped, killed, restarted, and where somebody has flushed the rules: a closed seat stays closed."""
    house.egress.allow(1, [])
    house.egress.allow(2, [mirror()])
    docker("kill", NAME)
    assert not house.goes_out("one") and house.goes_out("two")
    with pytest.raises(Unavailable):
        house.egress.allow(1, None)
    lost = ("delete", "table", "ip", BRIDGE)
    docker("run", "--rm", *settings(BRIDGE), "--entrypoint=nft", image("firewall"), *lost)
    assert house.goes_out("one")
    docker("start", NAME)
    wait_until(lambda: not house.goes_out("one"))
    assert house.goes_out("two")
    docker("exec", NAME, "nft", *lost)
    wait_until(lambda: not house.goes_out("one"))
    docker("exec", NAME, "nft", "flush", "set", "ip", BRIDGE, "restricted")
    wait_until(lambda: not house.goes_out("one"))
    wait_until(lambda: docker("inspect", "-f", "{{.State.Health.Status}}", NAME).strip() == "healthy")


def test_there_are_as_many_rules_for_forty_seats_as_for_one(house: House) -> None:
    house.egress.allow(3, ["192.0.2.0/24"])
    before = house.rules().splitlines()
    for seat in range(3, 41):
        house.egress.allow(seat, ["192.0.2.0/24", f"198.51.100.{seat}"])
    after = house.rules().splitlines()
    assert "198.51.100.40" in "".join(after)
    assert [line for line in after if "." not in line] == [line for line in before if "." not in line]
    for seat in range(3, 41):
        house.egress.allow(seat, None)


def test_only_policies_get_into_the_rules(house: House) -> None:
    """What is neither name nor network, or not about a seat, is refused and changes nothing; only the worker asks."""
    before = house.rules()
    for bad in (
        ["a b"],
        ["x; accept"],
        ["::/0"],
        ["192.0.2.1/24"],
        [f"n{i}.example.net" for i in range(65)],
        [""],
    ):
        with pytest.raises(ActionFailed):
            house.egress.allow(1, bad)
    foreign = SeatPlan("x", ipaddress.IPv4Network("10.9.0.0/24"), 1, 4, 2000, 2000)
    with pytest.raises(ActionFailed, match="no address of a seat"):
        Egress(foreign, house.folder / "run" / "egress.sock").allow(1, [])
    assert house.rules() == before
    made = (house.folder / "run" / "egress.sock").stat()
    assert (made.st_gid, stat.S_IMODE(made.st_mode)) == (WORKER, 0o660)
