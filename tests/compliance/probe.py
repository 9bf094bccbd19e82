"""What attacks from within: a container of exactly a seat's shape, in a place of the seats' network that no seat has.

Nobody's seat is touched. Its limits are smaller than a seat's, so that it can run into them on a host at work.
"""

import json
import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from tests.compliance.facts import NO_NEW_PRIVILEGES, SEAT_SHARES, Facts, run
from wodctl.adapters.containers import Containers
from wodctl.model.seat import user_name

ENGINE = Path("/var/run/docker.sock")

MEMORY, PROCESSES = 256 * 2**20, 96
"""What the probe may use; a seat may use more."""

SECONDS = 50
"""After so long a probe ends by itself, whatever became of us."""

ATTACKER, NEIGHBOUR = 1, 2
"""Places in the seats' quarter of the network: seats begin at FIRST_PLACE of wodctl/model/appliance.py."""

NEIGHBOURS_PORT = 8888

# Tries everything that a participant could try, and prints what happened. Arguments: JSON with `tcp` and `http`, lists
# of addresses by the name of the attempt, and `paths`, lists of files by the name of the attempt.
ATTEMPTS = """
import ctypes, json, os, socket, sys, urllib.error, urllib.request
from concurrent.futures import ThreadPoolExecutor
asked = json.loads(sys.argv[1])
def tcp(address, port):
    try:
        socket.create_connection((address, port), 2.5).close()
        return "reached %s:%d" % (address, port)
    except TimeoutError:
        return "no answer"
    except OSError as problem:
        return problem.strerror or str(problem)
def http(url):
    try:
        return str(urllib.request.urlopen(url, timeout=5).status)
    except urllib.error.HTTPError as answer:
        return str(answer.code)
    except OSError as problem:
        return str(problem)
def path(name):
    return "found " + name if os.path.exists(name) else "absent"
def attempt(work):
    try:
        work()
        return "done"
    except OSError as problem:
        return problem.strerror or str(problem)
def namespace():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def write(name):
    open(name + "/wod-probe", "w").close()
with ThreadPoolExecutor(72) as pool:
    found = {}
    for kind, work in (("tcp", lambda one: tcp(*one)), ("http", http), ("paths", path)):
        for name, targets in asked[kind].items():
            found.setdefault(name, []).extend(pool.submit(work, one) for one in targets)
    seen = {name: sorted({one.result() for one in results}) for name, results in found.items()}
seen["raw-sockets"] = sorted({
    attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)),
    attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
})
seen["root"] = sorted({attempt(lambda: os.setuid(0)), attempt(namespace)})
seen["files-of-the-system"] = sorted({attempt(lambda: write(name)) for name in ("/", "/usr/bin", "/etc", "/opt")})
print(json.dumps(seen))
"""

# As many processes as the kernel gives; prints their number and ends them all.
FORK_BOMB = """
import errno, os, signal, sys
children = []
try:
    while len(children) < 10000:
        child = os.fork()
        if not child:
            signal.pause()
        children.append(child)
    print("10000 processes")
except OSError as problem:
    print("%s after %d processes" % (problem.strerror, len(children)))
for child in children:
    os.kill(child, signal.SIGKILL)
"""

# Twice as much as the probe has memory, which is what /tmp is made of. Who is killed for it prints nothing.
FULL_DISK = """
import os
def end(text):
    os.write(1, text.encode())
    os._exit(0)
try:
    with open("/tmp/full", "wb", buffering=0) as file:
        os.unlink(file.name)
        for _ in range(%d):
            file.write(bytes(2**20))
    end("written")
except OSError as problem:
    end(problem.strerror)
"""


def seat_document(
    *,
    image: str,
    seat: int,
    uid: int,
    gid: int,
    network: str,
    address: str,
    home: str,
    memory: int,
    quota: int,
    pids: int,
) -> dict[str, Any]:
    """What the hub asks the engine for to make a seat's container; the gate's policy lets exactly this through."""
    owner = f"uid={uid},gid={gid}"
    user = user_name(seat)
    return {
        "Image": image,
        "Hostname": user,
        "User": f"{uid}:{gid}",
        "WorkingDir": f"/student/{user}",
        "Env": [f"USER={user}"],
        "NetworkingConfig": {"EndpointsConfig": {network: {"IPAMConfig": {"IPv4Address": address}}}},
        "HostConfig": {
            "NetworkMode": network,
            "Mounts": [{"Type": "bind", "Source": home, "Target": f"/student/{user}"}],
            "CapDrop": ["ALL"],
            "SecurityOpt": [NO_NEW_PRIVILEGES],
            "CgroupnsMode": "private",
            "ReadonlyRootfs": True,
            "Tmpfs": {
                "/tmp": "exec,nosuid,nodev,mode=1777",
                "/run": f"nosuid,nodev,mode=0755,{owner}",
                "/var/lib/extrausers": f"nosuid,nodev,mode=0755,size=64k,{owner}",
            },
            "Memory": memory,
            "MemorySwap": memory,
            "CpuPeriod": 100_000,
            "CpuQuota": quota,
            "CpuShares": SEAT_SHARES,
            "PidsLimit": pids,
            "AutoRemove": True,
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
        },
    }


def probe_document(facts: Facts, place: int) -> dict[str, Any]:
    """The probe's own: a seat of a number that does not exist, without a home, with a program that only waits."""
    s = facts.settings
    seat = s.WODUSERMAX + place
    labs = dict(word.split("=") for word in facts.environment["WOD_LABS"].split())
    document = seat_document(
        image=labs["lab"],
        seat=seat,
        uid=s.UIDBASE + seat,
        gid=s.GIDBASE + seat,
        network=f"{facts.project}_seats",
        address=address(facts, place),
        home="",
        memory=MEMORY,
        quota=round(s.WODSEATCPUS * 100_000),
        pids=PROCESSES,
    )
    document["HostConfig"]["Mounts"] = []
    wait = ["timeout", str(SECONDS)]
    listen = ["python3", "-m", "http.server", "--directory", "/var/empty", str(NEIGHBOURS_PORT)]
    document |= {
        "WorkingDir": "/",
        "Entrypoint": [*wait, *(listen if place == NEIGHBOUR else ["sleep", "infinity"])],
        "Labels": {"wod.project": facts.project, "wod.probe": str(place)},
        "Healthcheck": {"Test": ["NONE"]},
    }
    return document


def address(facts: Facts, place: int) -> str:
    """The probe's place in the network."""
    network = facts.plan.network
    return str(network[network.num_addresses // 2 + place])


class Probe:
    """Attacks the stack from a seat's place; `seen` says what came of it. The probes are gone when that is known."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._engine = Containers(ENGINE)
        self.seen: Future[Mapping[str, str]] = facts.begin(self._attack)

    def _name(self, place: int) -> str:
        return f"{self._facts.project}-probe-{place}"

    def _attack(self) -> dict[str, str]:
        facts = self._facts
        try:
            for place in (NEIGHBOUR, ATTACKER):
                self._engine.start(self._name(place), probe_document(facts, place))
            self._await_neighbour()
            before = self._metadata_packets()
            seen = json.loads(self._inside("-c", ATTEMPTS, json.dumps(self._targets())))
            found = {name: ", ".join(what) for name, what in seen.items()}
            dropped = self._metadata_packets() - before
            found["metadata"] += (
                f"; {dropped} packets dropped by rule" if dropped else "; no rule dropped a packet"
            )
            found["full-disk"] = self._fill_disk()
            # Last, because dead processes count until their container ends.
            found["fork-bomb"] = self._inside("-c", FORK_BOMB).strip()
            return found
        finally:
            for place in (NEIGHBOUR, ATTACKER):
                self._engine.ensure_absent(self._name(place))

    def _inside(self, *words: str) -> str:
        return run("docker", "exec", self._name(ATTACKER), "python3", *words)

    def _await_neighbour(self) -> None:
        """Wait until the neighbour's port is open, so that silence can only come from what lies between."""
        ask = f"import socket; socket.create_connection(('127.0.0.1', {NEIGHBOURS_PORT}), 1)"
        end = time.monotonic() + 15
        while True:
            try:
                run("docker", "exec", self._name(NEIGHBOUR), "python3", "-c", ask)
                return
            except AssertionError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def _fill_disk(self) -> str:
        words = ["docker", "exec", self._name(ATTACKER), "python3", "-c", FULL_DISK % (2 * MEMORY // 2**20)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        return "killed at the limit of its memory" if done.returncode == 137 else done.stdout.strip()

    def _metadata_packets(self) -> int:
        """Packets to the clouds' metadata addresses that the packet rules have dropped so far."""
        chain = f"{self._facts.environment['WOD_SEAT_BRIDGE']}-forward"
        total = 0
        for variant in ("nft", "legacy"):
            try:
                said = self._facts.inside("firewall", f"iptables-{variant}", "-w", "-nvxL", chain)
            except AssertionError:
                continue
            rows = [line.split() for line in said.splitlines()]
            total += sum(int(row[0]) for row in rows if row[2:3] == ["DROP"] and "169.254.0.0/16" in row)
        return total

    def _targets(self) -> dict[str, Any]:
        facts, s = self._facts, self._facts.settings
        network = facts.plan.network
        gateway, hub = str(network[1]), facts.environment["WOD_HUB_ADDRESS"]
        proxy = facts.environment["WOD_PROXY_ADDRESS"]
        at: dict[str, list[str]] = {}
        for one in facts.containers:
            found = one["NetworkSettings"]["Networks"].values()
            at.setdefault(one["Config"]["Labels"].get("com.docker.compose.service", ""), []).extend(
                net["IPAddress"] for net in found if net["IPAddress"]
            )
        everywhere = sorted({ip for name, ips in at.items() if name for ip in ips} | {gateway})
        # The host under each of its addresses towards us: wherever published ports could be reached.
        ours = [net for net in facts.networks.values() if net["Name"].startswith(f"{facts.project}_")]
        gateways = {one.get("Gateway", gateway) for net in ours for one in net["IPAM"]["Config"]}
        hosts = sorted({gateway, *gateways})
        return {
            "tcp": {
                "neighbour": [(address(facts, NEIGHBOUR), NEIGHBOURS_PORT)],
                "database": [(ip, 5432) for ip in everywhere],
                "docker-socket": [(ip, port) for ip in hosts for port in (2375, 2376)],
                "mail": [(ip, 10025) for ip in at.get("mail", [])] + [(ip, s.WODPOSTPORT) for ip in hosts],
                "hub-internals": [
                    *((ip, 8081) for ip in at.get("hub", []) if ip != hub),
                    *((ip, 8099) for ip in [proxy, *at.get("proxy", [])]),
                    *((ip, 8100) for ip in at.get("doorman", [])),
                    (hub, 8001),
                ],
                "host": [(ip, port) for ip in hosts for port in (22, s.WODBEPORT)],
                "metadata": [("169.254.169.254", 80)],
            },
            "http": {
                "hub-api": [f"http://{hub}:8081/hub/api/users"],
                "token-of-another": [f"http://{hub}:8081/hub/seat-token"],
            },
            "paths": {
                "database": ["/run/postgresql"],
                "docker-socket": ["/var/run/docker.sock", "/run/docker.sock"],
                "gate": ["/run/gate", "/run/gate/docker.sock"],
                "homes-of-others": ["/var/lib/wod", str(facts.state), f"/student/{user_name(s.WODUSERMIN)}"],
            },
        }
