"""The engine's configuration (section 2 of the benchmark); `wodctl host apply` sets it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.compliance.facts import Facts

LOOPBACK = {"127.0.0.0/8", "::1/128"}


@pytest.fixture(scope="module")
def options(host: Any) -> dict[str, Any]:
    """The engine's options: those of its command line, and of its file."""
    file = host.file("/etc/docker/daemon.json")
    found: dict[str, Any] = json.loads(file.content_string) if file.exists and file.size else {}
    for process in host.process.filter(comm="dockerd"):
        for name, value in re.findall(r"--?([A-Za-z-]+)(?:[= ]([^- ]\S*))?", process.args):
            found.setdefault({"H": "hosts", "host": "hosts"}.get(name, name), value or True)
    return found


@pytest.mark.cis("5.1")
def test_it_is_no_swarm(facts: Facts) -> None:
    """The engine is not a part of a swarm, which would open ports of its own."""
    assert facts.engine["Swarm"]["LocalNodeState"] == "inactive", facts.engine["Swarm"]["LocalNodeState"]


@pytest.mark.host
@pytest.mark.cis("2.2")
def test_containers_of_the_default_bridge_do_not_see_each_other(
    facts: Facts, options: dict[str, Any]
) -> None:
    """Between containers of the engine's default network nothing passes."""
    bridge = facts.networks.get("bridge", {}).get("Options", {})
    closed = bridge.get("com.docker.network.bridge.enable_icc") == "false" or options.get("bridge") == "none"
    assert closed, "icc is on"


@pytest.mark.host
@pytest.mark.cis("2.3")
def test_it_logs_what_matters(options: dict[str, Any]) -> None:
    """The engine logs at the level info."""
    assert options.get("log-level", "info") == "info", options.get("log-level")


@pytest.mark.host
@pytest.mark.cis("2.4")
def test_it_writes_packet_rules(options: dict[str, Any]) -> None:
    """The engine keeps networks apart by packet rules."""
    assert str(options.get("iptables", True)).lower() == "true", "iptables is off"


@pytest.mark.host
@pytest.mark.cis("2.5")
def test_no_registry_is_insecure(facts: Facts) -> None:
    """No registry but one on this very host is believed without TLS."""
    registry = facts.engine["RegistryConfig"]
    wrong = set(registry["InsecureRegistryCIDRs"]) - LOOPBACK
    wrong |= {name for name, one in (registry["IndexConfigs"] or {}).items() if not one["Secure"]}
    assert not wrong, ", ".join(sorted(wrong))


@pytest.mark.host
@pytest.mark.cis("2.6", "2.11")
def test_its_storage_is_a_current_one(facts: Facts) -> None:
    """Images and containers are on overlay2 or a driver that is kept up like it."""
    assert facts.engine["Driver"] in ("overlay2", "overlayfs", "btrfs", "zfs"), facts.engine["Driver"]


@pytest.mark.host
@pytest.mark.cis("2.7")
def test_it_listens_on_its_socket_only(host: Any, options: dict[str, Any]) -> None:
    """Nobody reaches the engine by the network unless he shows a certificate; its socket is its group's."""
    hosts = options.get("hosts") or []
    open_ports = [
        one for one in ([hosts] if isinstance(hosts, str) else hosts) if str(one).startswith("tcp:")
    ]
    assert not open_ports or options.get("tlsverify"), ", ".join(open_ports)
    socket = host.file("/var/run/docker.sock")
    assert socket.user == "root"
    assert socket.mode & 0o007 == 0, f"its socket is {socket.mode:04o}"


@pytest.mark.host
@pytest.mark.cis("2.8")
def test_open_files_are_limited(options: dict[str, Any]) -> None:
    """A container that says nothing else has a limit of open files."""
    assert "nofile" in str(options.get("default-ulimits") or options.get("default-ulimit")), (
        "default-ulimits is not set"
    )


@pytest.mark.host
@pytest.mark.cis("2.10")
def test_control_groups_are_where_they_belong(options: dict[str, Any]) -> None:
    """Containers are in the engine's own control group."""
    assert not options.get("cgroup-parent"), options.get("cgroup-parent")


@pytest.mark.host
@pytest.mark.cis("2.13")
def test_logs_of_containers_are_bounded(facts: Facts, options: dict[str, Any]) -> None:
    """A container that says nothing else cannot fill the disk with its log."""
    bounded = "max-size" in str(options.get("log-opts") or options.get("log-opt"))
    assert bounded or facts.engine["LoggingDriver"] in ("local", "journald"), facts.engine["LoggingDriver"]


@pytest.mark.host
@pytest.mark.cis("2.15")
def test_containers_outlive_its_restart(facts: Facts) -> None:
    """Servers of participants go on while the engine is restarted."""
    assert facts.engine["LiveRestoreEnabled"], "live-restore is off"


@pytest.mark.host
@pytest.mark.cis("2.18")
def test_it_has_no_experimental_features(facts: Facts) -> None:
    """Nothing experimental is switched on."""
    assert not facts.engine["ExperimentalBuild"], "experimental is on"


@pytest.mark.host
def test_its_files_are_roots(host: Any) -> None:
    """What configures the engine can be changed by root alone."""
    wrong = []
    for name in ("/etc/docker", "/etc/docker/daemon.json", "/lib/systemd/system/docker.service"):
        file = host.file(name)
        if file.exists and (file.user != "root" or file.mode & 0o022):
            wrong.append(f"{name} is {file.user} {file.mode:04o}")
    assert not wrong, "; ".join(wrong)


def test_the_engine_is_under_a_folder_of_its_own(facts: Facts) -> None:
    """What containers write is nobody's but root's to read on the host."""
    root = Path(facts.engine["DockerRootDir"])
    mode = root.stat().st_mode & 0o777
    assert mode & 0o066 == 0, f"{root} is {mode:04o}"
