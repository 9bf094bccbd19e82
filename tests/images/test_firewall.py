"""The firewall on a real network of seats: who reaches whom, and what happens when rules are lost."""

import ipaddress
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT, docker
from wodctl.adapters import configuration
from wodctl.adapters.builder import Builder

MARK = f"fw{os.getpid() % 100000:05d}"
BRIDGE = f"wod-{MARK}"
SUBNET = ipaddress.ip_network(f"10.231.{os.getpid() % 250}.0/24")
GATEWAY, HUB, PROXY = (str(SUBNET[i]) for i in (1, 2, 3))
# Seats are in the third quarter, appliances in the first; another container that somebody starts gets the last.
ONE, TWO, HIS, HERS, OTHER = (str(SUBNET[i]) for i in (128 + 16, 128 + 17, 16, 17, 192 + 5))
HOST_PORT = 20000 + os.getpid() % 5000
PUBLISHED_PORT = HOST_PORT + 5000
APPLIANCE_PORT = HOST_PORT + 10000

# What stands for every service: answers on some TCP ports, and on the UDP ports of the same numbers.
SERVER = """
import socket, sys, threading
def tcp(port):
    listening = socket.create_server(("0.0.0.0", port))
    while True:
        listening.accept()[0].close()
def udp(port):
    listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listening.bind(("0.0.0.0", port))
    while True:
        listening.sendto(*listening.recvfrom(100))
for port in map(int, sys.argv[1:]):
    threading.Thread(target=tcp, args=(port,)).start()
    threading.Thread(target=udp, args=(port,)).start()
"""

# Whether an address answers.
PROBE = """
import socket, struct, sys
kind, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
try:
    if kind == "tcp":
        socket.create_connection((address, port), 1.5).close()
    elif kind == "udp":
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.settimeout(1.5)
        client.sendto(b"x", (address, port))
        client.recv(100)
    else:
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
        client.settimeout(1.5)
        client.sendto(struct.pack("!BBHHH", 8, 0, 0, 0, 1), (address, 0))
        client.recv(100)
    print("reached")
except OSError as problem:
    print(problem)
"""

# What a program could try to look like the hub: an address that is not its own, a raw packet, a frame.
SPOOF = """
import socket, sys
def bound(option):
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.setsockopt(socket.IPPROTO_IP, option, 1)
    client.bind((sys.argv[1], 0))
    client.sendto(b"x", (sys.argv[2], 8888))
tries = {
    "freebind": lambda: bound(15),
    "transparent": lambda: bound(19),
    "raw": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW),
    "packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
}
for name, attempt in tries.items():
    try:
        attempt()
        print(name)
    except OSError:
        pass
"""


@dataclass(frozen=True)
class Network:
    """The seats' network with a hub, a proxy, two seats, and others around it; `reach` is the firewall's folder."""

    firewall: str
    elsewhere: str
    reach: Path

    def reaches(self, who: str, kind: str, address: str, port: int = 0) -> bool:
        """Whether a process in this container gets an answer from there."""
        said = docker("exec", f"{MARK}-{who}", "python3", "-c", PROBE, kind, address, str(port))
        return said.strip() == "reached"

    def rules(self, *words: str) -> str:
        """Run the iptables of the firewall's container on the host's rules."""
        return docker("exec", self.firewall, "iptables-nft", "-w", *words)

    def in_place(self) -> bool:
        """Whether the firewall's own check is content."""
        return docker("exec", self.firewall, "sh", "-c", "wod-firewall check && echo yes", check=False) != ""


@cache
def image(name: str) -> str:
    """The image of ours with this name, as it is built now."""
    state = Path("/var/lib/wod-tests")
    builder = Builder(ROOT, state, configuration.load(ROOT, state, {}, {})[0])
    if name in builder.missing():
        builder.build([name])
    return builder.tag(name)


def wait_until(promise: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until it is so."""
    end = time.monotonic() + seconds
    while not promise():
        assert time.monotonic() < end, "It did not happen in time."
        time.sleep(0.2)


def settings(bridge: str, reach: Path | None = None) -> list[str]:
    """The firewall's settings and rights, as options of the engine's client; `reach` is what `up` writes for it."""
    values = {
        "WOD_SEAT_BRIDGE": bridge,
        "WOD_SEAT_SUBNET": str(SUBNET),
        "WOD_HUB_ADDRESS": HUB,
        "WOD_PROXY_ADDRESS": PROXY,
        "WOD_BAN_PORTS": f"{PUBLISHED_PORT},{APPLIANCE_PORT}-{APPLIANCE_PORT + 9}",
        "WOD_BAN_NEVER": "127.0.0.0/8",
    }
    rights = ["--network=host", "--cap-drop=ALL", "--cap-add=NET_ADMIN", "--security-opt=no-new-privileges"]
    places = [
        "--read-only",
        "--tmpfs=/run:mode=755,size=1m",
        *([f"-v={reach}:/etc/wod/appliances"] if reach else []),
    ]
    return [*rights, *places, *(f"-e={name}={value}" for name, value in values.items())]


def firewall_for(name: str, bridge: str, reach: Path | None = None) -> str:
    """Start a firewall and wait until its rules are in place."""
    docker("run", "-d", f"--name={MARK}-{name}", *settings(bridge, reach), image("firewall"))
    health = ("inspect", "-f", "{{.State.Health.Status}}", f"{MARK}-{name}")
    wait_until(lambda: docker(*health).strip() == "healthy")
    return f"{MARK}-{name}"


def serve(name: str, *options: str, ports: tuple[int, ...]) -> None:
    """Start a container that answers on these ports."""
    command = ["python3", "-c", SERVER, *(str(port) for port in ports)]
    docker("run", "-d", f"--name={MARK}-{name}", "--init", *options, image("base"), *command)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """The seats' network under the firewall, with the services and the host that seats must not reach."""
    seat = ("--cap-drop=ALL", "--security-opt=no-new-privileges")
    names = ("firewall", "second", "hub", "proxy", "one", "two", "his", "hers", "other", "host", "elsewhere")
    try:
        docker(
            *("network", "create", f"--subnet={SUBNET}", f"--gateway={GATEWAY}"),
            *("-o", "com.docker.network.bridge.enable_icc=false"),
            *("-o", f"com.docker.network.bridge.name={BRIDGE}", f"{MARK}_seats"),
        )
        docker("network", "create", f"{MARK}_edge")
        reach = tmp_path_factory.mktemp("reach")
        firewall = firewall_for("firewall", BRIDGE, reach)
        serve("hub", f"--network={MARK}_seats", f"--ip={HUB}", ports=(8081, 8080))
        serve("proxy", f"--network={MARK}_seats", f"--ip={PROXY}", ports=(8000, 8099))
        serve("one", f"--network={MARK}_seats", f"--ip={ONE}", "-u=2001:2001", *seat, ports=(8888, 5000))
        serve("two", f"--network={MARK}_seats", f"--ip={TWO}", "-u=2002:2002", *seat, ports=(8888, 5000))
        for name, address in (("his", HIS), ("hers", HERS), ("other", OTHER)):
            options = (f"--network={MARK}_seats", f"--ip={address}", "-u=2003:2003", *seat)
            published = [f"-p={APPLIANCE_PORT}:22"] if name == "his" else []
            serve(name, *options, *published, ports=(22, 8888))
        serve("host", "--network=host", ports=(HOST_PORT,))
        serve("elsewhere", f"--network={MARK}_edge", f"-p={PUBLISHED_PORT}:8000", ports=(8000,))
        elsewhere = docker(
            "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", f"{MARK}-elsewhere"
        ).strip()
        made = Network(firewall, elsewhere, reach)
        wait_until(lambda: made.reaches("one", "tcp", ONE, 8888) and made.reaches("hub", "tcp", HUB, 8081))
        yield made
    finally:
        docker("rm", "-f", *(f"{MARK}-{name}" for name in names), check=False)
        docker("run", "--rm", *settings(BRIDGE), image("firewall"), "remove", check=False)
        docker("network", "rm", f"{MARK}_seats", f"{MARK}_edge", check=False)


# The address by which this machine goes out: sending nothing, a socket knows it already.
PRIMARY = """
import socket
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.connect(("192.0.2.1", 9))
print(client.getsockname()[0])
"""


def addresses_of_the_host() -> list[str]:
    """Addresses of the host as a seat could try them: gateways of networks, and that of the host itself."""
    gateway = "{{range .IPAM.Config}}{{.Gateway}}{{end}}"
    edge = docker("network", "inspect", "-f", gateway, f"{MARK}_edge").strip()
    primary = docker("exec", f"{MARK}-host", "python3", "-c", PRIMARY).strip()
    return [GATEWAY, edge, primary]


def mirror() -> str:
    """An address outside that answers to HTTP: this machine's mirror of Debian."""
    files = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    for text in (file.read_text() for file in files if file.is_file()):
        if found := re.search(r"^(?:deb .*?|URIs: *)http://([^/:\s]+)/", text, re.MULTILINE):
            return socket.gethostbyname(found[1])
    raise AssertionError("No source of Debian packages by HTTP is configured here.")


@pytest.mark.parametrize(("kind", "port"), [("tcp", 8888), ("tcp", 5000), ("udp", 5000), ("ping", 0)])
def test_seats_do_not_reach_each_other(network: Network, kind: str, port: int) -> None:
    """Neither by TCP nor by UDP nor by a ping, and in no direction."""
    assert not network.reaches("one", kind, TWO, port)
    assert not network.reaches("two", kind, ONE, port)


@pytest.mark.parametrize(("kind", "port"), [("tcp", 22), ("tcp", 8888), ("udp", 8888), ("ping", 0)])
def test_a_seat_reaches_its_own_appliance_and_nobody_elses(network: Network, kind: str, port: int) -> None:
    """By any protocol; and an appliance reaches no seat, not even its own, and no other appliance."""
    assert network.reaches("one", kind, HIS, port)
    assert network.reaches("two", kind, HERS, port)
    for who, address in (("one", HERS), ("two", HIS), ("other", HIS), ("his", HERS), ("hers", HIS)):
        assert not network.reaches(who, kind, address, port), f"{who} reaches {address}"
    for who, address in (("his", ONE), ("hers", ONE), ("his", TWO)):
        assert not network.reaches(who, kind, address, 0 if kind == "ping" else 8888), (
            f"{who} reaches {address}"
        )


def test_an_appliance_reaches_no_service_of_ours_and_not_the_host(network: Network) -> None:
    """The hub's API neither, which seats have to reach; nor metadata. The internet it does."""
    for kind, address, port in (
        ("tcp", HUB, 8081),
        ("tcp", PROXY, 8000),
        ("ping", HUB, 0),
        ("ping", PROXY, 0),
    ):
        assert not network.reaches("his", kind, address, port), f"it reaches {address}:{port}"
    for address in addresses_of_the_host():
        assert not network.reaches("his", "tcp", address, HOST_PORT)
        assert not network.reaches("his", "tcp", address, PUBLISHED_PORT)
        assert not network.reaches("his", "ping", address)
    assert not network.reaches("his", "tcp", "169.254.169.254", 80)
    assert network.reaches("his", "tcp", mirror(), 80)


def test_on_another_docker_host_a_seat_reaches_its_own_ports_and_nothing_else(network: Network) -> None:
    """A mirror stands for the host. What is written down counts at once, and no longer when it is taken away."""
    there = mirror()
    assert all(network.reaches(who, "tcp", there, 80) for who in ("one", "two", "his"))
    (network.reach / "reach").write_text(f"{ONE} {there} 80,20000\n{TWO} {there} 81,20001\n")
    wait_until(lambda: not network.reaches("two", "tcp", there, 80))
    assert network.reaches("one", "tcp", there, 80)
    assert not network.reaches("his", "tcp", there, 80)
    assert not network.reaches("one", "ping", there)
    wait_until(network.in_place)
    (network.reach / "reach").write_text("")
    wait_until(lambda: network.reaches("two", "tcp", there, 80))
    assert network.reaches("his", "tcp", there, 80)


def test_the_proxy_reaches_appliances_and_the_hub_does_not(network: Network) -> None:
    assert network.reaches("proxy", "tcp", HIS, 8888)
    assert not network.reaches("hub", "tcp", HIS, 8888)


def test_a_published_port_of_an_appliance_is_open_to_the_world_and_closed_to_other_seats(
    network: Network,
) -> None:
    """From elsewhere on this machine, which is what a participant's browser is; not by way of the host's address."""
    assert network.reaches("elsewhere", "tcp", addresses_of_the_host()[2], APPLIANCE_PORT)
    for who in ("one", "two", "hers"):
        for address in addresses_of_the_host():
            assert not network.reaches(who, "tcp", address, APPLIANCE_PORT), f"{who} by {address}"


def test_rules_are_as_many_for_two_seats_as_for_a_thousand(network: Network) -> None:
    """Two for each bit of a place, beside those that there are anyway."""
    rules = network.rules("-S", f"{BRIDGE}-pair").strip().splitlines()
    assert len(rules) == 1 + 2 * 6 + 1


def test_hub_and_proxy_reach_the_seats(network: Network) -> None:
    """The hub sees when a server answers, the proxy hands requests on to it."""
    for who in ("hub", "proxy"):
        for seat in (ONE, TWO):
            assert network.reaches(who, "tcp", seat, 8888)
            assert network.reaches(who, "udp", seat, 5000)
            assert network.reaches(who, "ping", seat)


def test_a_seat_reaches_the_api_of_the_hub_and_nothing_else_there(network: Network) -> None:
    """Port 8081 of the hub is open to seats; its other ports and the proxy are not."""
    assert network.reaches("one", "tcp", HUB, 8081)
    assert not network.reaches("one", "tcp", HUB, 8080)
    assert not network.reaches("one", "udp", HUB, 8081)
    assert not network.reaches("one", "ping", HUB)
    assert not network.reaches("one", "tcp", PROXY, 8081)
    assert not network.reaches("one", "tcp", PROXY, 8000)
    assert not network.reaches("one", "tcp", PROXY, 8099)


def test_a_seat_does_not_reach_the_host(network: Network) -> None:
    """No address of the host answers to a seat: neither on its own ports nor on published ones."""
    for address in addresses_of_the_host():
        for kind, port in (("tcp", HOST_PORT), ("udp", HOST_PORT), ("tcp", PUBLISHED_PORT)):
            assert network.reaches("host", kind, address, port), (kind, address)
            assert not network.reaches("one", kind, address, port), (kind, address)
    assert not network.reaches("one", "ping", GATEWAY)


def test_a_seat_does_not_reach_other_networks_of_the_engine(network: Network) -> None:
    """Containers of other networks are out of a seat's reach, and a seat is out of theirs."""
    assert network.reaches("host", "tcp", network.elsewhere, 8000)
    assert not network.reaches("one", "tcp", network.elsewhere, 8000)
    assert not network.reaches("elsewhere", "tcp", ONE, 8888)


@pytest.mark.parametrize("address", ["169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192"])
def test_a_seat_does_not_reach_a_metadata_address(network: Network, address: str) -> None:
    """Packets to the place where a cloud tells its machines secrets are dropped by our rule."""

    def dropped() -> int:
        lines = network.rules("-v", "-n", "-x", "-L", f"{BRIDGE}-forward").splitlines()
        rules = [line.split() for line in lines if " DROP " in line]
        there = [rule for rule in rules if rule[8] not in ("0.0.0.0/0", f"!{SUBNET}")]
        return sum(
            int(rule[0]) for rule in there if ipaddress.ip_address(address) in ipaddress.ip_network(rule[8])
        )

    before = dropped()
    assert not network.reaches("one", "tcp", address, 80)
    assert dropped() > before


def test_a_seat_reaches_the_internet(network: Network) -> None:
    """What is not the site's is open to seats."""
    assert network.reaches("one", "tcp", mirror(), 80)


def test_hub_and_proxy_reach_only_seats_by_the_seats_network(network: Network) -> None:
    """A service that was taken over finds no way out through the network that it shares with the seats."""
    for who in ("hub", "proxy"):
        assert not network.reaches(who, "tcp", mirror(), 80)
        assert not network.reaches(who, "tcp", network.elsewhere, 8000)
        assert not network.reaches(who, "tcp", GATEWAY, HOST_PORT)


def test_a_seat_cannot_pretend_to_be_the_hub(network: Network) -> None:
    """Without capabilities no packet leaves a seat with an address that is not its own."""
    assert docker("exec", f"{MARK}-one", "python3", "-c", SPOOF, HUB, TWO) == ""


def test_a_seat_has_no_other_protocol(network: Network) -> None:
    """No IPv6, by which the rules could be walked round."""
    assert "fe80" not in docker("exec", f"{MARK}-one", "sh", "-c", "cat /proc/net/if_inet6 || true")
    assert "DROP" in docker("exec", network.firewall, "ip6tables-nft", "-S", f"{BRIDGE}-forward")


@pytest.mark.parametrize(
    "loss",
    [
        ("-F", f"{BRIDGE}-forward"),
        ("-F", f"{BRIDGE}-input"),
        ("-D", "DOCKER-USER", "-i", BRIDGE, "-j", f"{BRIDGE}-forward"),
        ("-D", "DOCKER-USER", "-o", BRIDGE, "-j", f"{BRIDGE}-forward"),
        ("-D", "INPUT", "-i", BRIDGE, "-j", f"{BRIDGE}-input"),
        ("-I", f"{BRIDGE}-forward", "1", "-j", "ACCEPT"),
    ],
)
def test_rules_that_are_lost_come_back(network: Network, loss: tuple[str, ...]) -> None:
    """Whoever flushes or changes the rules, they are as they were within seconds."""
    network.rules(
        *loss
    )  # raises if there was nothing to lose; a quick repair may be done before anybody could look
    wait_until(network.in_place)
    assert network.reaches("proxy", "tcp", ONE, 8888)
    assert not network.reaches("one", "tcp", TWO, 8888)
    assert not network.reaches("one", "tcp", GATEWAY, HOST_PORT)


def test_rules_are_there_once(network: Network) -> None:
    """A firewall that starts again finds its rules and doubles none."""
    docker("restart", "-t", "2", network.firewall)
    wait_until(network.in_place)
    rules = network.rules("-S").splitlines()
    assert len(rules) == len(set(rules))
    assert sum(BRIDGE in rule and "DOCKER-USER" in rule for rule in rules) == 2


def test_the_engine_goes_on_working_beside_the_rules(network: Network) -> None:
    """The host's own iptables, older or newer, can read the tables: a new network comes and goes."""
    docker("network", "create", f"{MARK}_new")
    docker("network", "rm", f"{MARK}_new")
    assert network.in_place()


def test_stacks_side_by_side_do_not_touch_each_other(network: Network) -> None:
    """Another stack's firewall comes and goes without a trace in ours."""
    ours = [rule for rule in network.rules("-S").splitlines() if BRIDGE in rule]
    other = f"w2-{MARK}"
    firewall_for("second", other)
    assert other in network.rules("-S")
    docker("rm", "-f", f"{MARK}-second")
    docker("run", "--rm", *settings(other), image("firewall"), "remove")
    assert other not in network.rules("-S")
    assert [rule for rule in network.rules("-S").splitlines() if BRIDGE in rule] == ours


def test_the_firewall_needs_netfilter_on_bridges() -> None:
    """Where the kernel hands bridged packets past iptables, the firewall says so and is not healthy."""
    # In a network namespace of its own, with the chain that Docker would make: the host keeps its setting.
    script = (
        "iptables-nft -N DOCKER-USER; tini -- wod-firewall & sleep 1; wod-firewall check && echo content; "
        "echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables; wod-firewall check 2>&1 || true"
    )
    options = [word for word in settings(BRIDGE) if word.startswith("-e=")]
    own = ("run", "--rm", "--privileged", "--network=none", "--entrypoint=sh")
    said = docker(*own, *options, image("firewall"), "-c", script)
    assert said.splitlines()[0] == "content"
    assert "bridge-nf-call-iptables is not 1" in said


def test_values_that_are_no_addresses_are_refused() -> None:
    """Nothing but addresses and names of interfaces gets into the rules."""
    for bad in ("", "x -j ACCEPT", "x\n-F", "a" * 16):
        words = [word for word in settings(BRIDGE) if not word.startswith("-e=WOD_SEAT_BRIDGE")]
        said = docker("run", "--rm", *words, f"-e=WOD_SEAT_BRIDGE={bad}", image("firewall"), check=False)
        assert said == ""


def test_rules_stay_when_the_firewall_ends_and_go_when_asked(network: Network) -> None:
    """A stopped firewall leaves the seats closed in; without any rules nobody reaches anybody."""
    docker("stop", "-t", "5", network.firewall)
    assert docker("inspect", "-f", "{{.State.ExitCode}}", network.firewall).strip() == "0"
    assert network.reaches("proxy", "tcp", ONE, 8888)
    assert not network.reaches("one", "tcp", TWO, 8888)
    assert not network.reaches("one", "tcp", GATEWAY, HOST_PORT)
    docker("run", "--rm", *settings(BRIDGE), image("firewall"), "remove")
    assert not network.reaches("proxy", "tcp", ONE, 8888)
    assert not network.reaches("one", "tcp", TWO, 8888)
    docker("start", network.firewall)
    wait_until(network.in_place)
    assert network.reaches("proxy", "tcp", ONE, 8888)
