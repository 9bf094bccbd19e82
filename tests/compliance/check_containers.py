"""Containers of services, seats, appliances and jobs: each is what stack.yml or the gate's policy says."""

import re
from pathlib import Path

import pytest

from tests.compliance.facts import Container, Expected, Facts, Group, Mount

SECRET = re.compile(r"(?i)[^=]*(password|passwd|secret|token|api_?key)[^=]*=.+")

ENGINE_SOCKETS = ("docker.sock", "containerd.sock")


def differ(seen: object, expected: object) -> str:
    """What to say where two values are not the same."""
    return "" if seen == expected else f"{_shown(seen)}, expected {_shown(expected)}"


def _shown(value: object) -> str:
    if isinstance(value, frozenset):
        return ", ".join(sorted(map(_shown, value))) or "none"
    if isinstance(value, tuple):
        return ":".join(map(str, value))
    return str(value)


def test_every_container_is_known(containers: Group) -> None:
    """No container is there that this stack does not have."""
    unknown = [one.name for one in containers.containers if one.expected is None]
    assert not unknown, f"unknown: {', '.join(unknown)}"


@pytest.mark.cis("5.27")
def test_it_runs_and_is_healthy(containers: Group) -> None:
    """It runs, and its own health check is content."""
    assert containers.containers, "there is no container"

    def wrong(one: Container, _: Expected) -> str:
        state = one.inspected["State"]
        health = state.get("Health", {}).get("Status", "none")
        well = state["Status"] == "running" and health in ("healthy", "none", "starting")
        return "" if well else f"{state['Status']}, {health}"

    assert not containers.offenders(wrong), containers.offenders(wrong)


@pytest.mark.cis("5.28")
def test_it_is_of_the_current_image(facts: Facts, containers: Group) -> None:
    """A service is made of the image that the last `up` built; a seat of that or, while it is lent, a former one."""
    is_service = containers.name in facts.services

    def wrong(one: Container, expected: Expected) -> str:
        image = str(one.inspected["Config"]["Image"])
        ours = {name.partition(":")[0] for name in expected.images}
        good = image in expected.images or (not is_service and image.partition(":")[0] in ours)
        return "" if good else differ(image, expected.images)

    assert not containers.offenders(wrong), containers.offenders(wrong)


@pytest.mark.cis("5.5")
def test_it_is_not_privileged(containers: Group) -> None:
    """It is not privileged."""

    def wrong(one: Container, _: Expected) -> str:
        return "privileged" if one.host["Privileged"] else ""

    assert not containers.offenders(wrong), containers.offenders(wrong)


@pytest.mark.cis("5.4")
def test_it_has_only_the_capabilities_it_needs(containers: Group) -> None:
    """All capabilities are dropped but those that it needs."""

    def wrong(one: Container, expected: Expected) -> str:
        if [name.removeprefix("CAP_") for name in one.host["CapDrop"] or []] != ["ALL"]:
            return "not all capabilities are dropped"
        return differ(one.capabilities, expected.capabilities)

    assert not containers.offenders(wrong), containers.offenders(wrong)


@pytest.mark.cis("5.22", "5.26")
def test_its_security_options_are_as_agreed(containers: Group) -> None:
    """It gains no rights by set-uid programs, and the engine's profile of system calls holds."""

    def wrong(one: Container, expected: Expected) -> str:
        options = frozenset(one.host["SecurityOpt"] or [])
        # The engine adds this to privileged containers, which is another check's matter.
        return differ(options - {"label=disable"}, expected.options)

    assert not containers.offenders(wrong), containers.offenders(wrong)


@pytest.mark.cis("5.2", "5.3")
def test_a_security_module_confines_it(facts: Facts, containers: Group) -> None:
    """AppArmor's or SELinux's profile of containers is in force where the host has one of them."""
    options = " ".join(facts.engine["SecurityOptions"])
    if "apparmor" not in options and "selinux" not in options:
        pytest.skip("this host's kernel offers neither AppArmor nor SELinux")

    def wrong(one: Container, expected: Expected) -> str:
        if "apparmor=unconfined" in expected.options or one.host["Privileged"]:
            return ""
        profile = one.inspected["AppArmorProfile"] or one.inspected["ProcessLabel"]
        return "" if profile and profile != "unconfined" else "unconfined"

    assert not containers.offenders(wrong), containers.offenders(wrong)


@pytest.mark.cis("5.13")
def test_its_root_is_read_only(containers: Group) -> None:
    """Its root file system is read-only, unless an appliance's definition says otherwise."""

    def wrong(one: Container, expected: Expected) -> str:
        return "writable" if expected.read_only and not one.host["ReadonlyRootfs"] else ""

    assert not containers.offenders(wrong), containers.offenders(wrong)


@pytest.mark.cis("5.11")
def test_its_memory_is_limited(containers: Group) -> None:
    """It has the memory that it should have, in bytes, and no more."""

    def wrong(one: Container, expected: Expected) -> str:
        return differ(one.host["Memory"], expected.memory)

    assert not containers.offenders(wrong), containers.offenders(wrong)


@pytest.mark.cis("5.12")
def test_its_share_of_processors_is_as_agreed(containers: Group) -> None:
    """Its weight and its limit of processor time are as they should be: a seat never starves a service."""

    def wrong(one: Container, expected: Expected) -> str:
        quota = one.host["CpuQuota"] or one.host["NanoCpus"] // 10_000
        return differ((one.host["CpuShares"], quota), (expected.shares, expected.quota))

    assert not containers.offenders(wrong), containers.offenders(wrong)


@pytest.mark.cis("5.29")
def test_its_processes_are_limited(containers: Group) -> None:
    """It may have as many processes and threads as it should, and no more."""

    def wrong(one: Container, expected: Expected) -> str:
        return differ(one.host["PidsLimit"], expected.pids)

    assert not containers.offenders(wrong), containers.offenders(wrong)


@pytest.mark.cis("5.16", "5.17", "5.21", "5.25", "5.31")
def test_its_namespaces_are_its_own(containers: Group) -> None:
    """It shares no processes, shared memory, host name, users or control groups with the host or others."""

    def wrong(one: Container, _: Expected) -> str:
        host = one.host
        own = {"PidMode": "", "UTSMode": "", "UsernsMode": "", "CgroupParent": "", "CgroupnsMode": "private"}
        shared = [f"{name} {host[name]}" for name, value in own.items() if host[name] != value]
        # Without a namespace of its own a privileged container is given the host's: another check's matter.
        if host["Privileged"]:
            shared = [found for found in shared if not found.startswith("CgroupnsMode")]
        if host["IpcMode"] not in ("private", "none"):
            shared.append(f"IpcMode {host['IpcMode']}")
        return ", ".join(shared)

    assert not containers.offenders(wrong), containers.offenders(wrong)


@pytest.mark.cis("5.10")
def test_its_network_is_not_the_hosts(containers: Group) -> None:
    """It has a network of its own, not the host's."""

    def wrong(one: Container, _: Expected) -> str:
        return "the host's" if one.host["NetworkMode"] == "host" else ""

    assert not containers.offenders(wrong), containers.offenders(wrong)


@pytest.mark.cis("5.30")
def test_it_is_in_its_networks_only(containers: Group) -> None:
    """It is in the networks that it needs, and never in the engine's default one."""

    def wrong(one: Container, expected: Expected) -> str:
        return "" if expected.host_network else differ(one.networks, expected.networks)

    assert not containers.offenders(wrong), containers.offenders(wrong)


@pytest.mark.cis("5.8", "5.9")
def test_it_publishes_only_its_ports(containers: Group) -> None:
    """The ports of the host that lead to it are those of the settings."""

    def wrong(one: Container, expected: Expected) -> str:
        return differ(one.ports, expected.ports)

    assert not containers.offenders(wrong), containers.offenders(wrong)


@pytest.mark.cis("5.14")
def test_it_is_published_at_one_address(containers: Group) -> None:
    """What it publishes is bound to one address of the host."""

    def wrong(one: Container, _: Expected) -> str:
        return ", ".join(f"{ip or '*'}:{port}" for ip, port in one.ports if ip in ("", "0.0.0.0", "::"))

    assert not containers.offenders(wrong), containers.offenders(wrong)


@pytest.mark.cis("5.6", "5.20")
def test_its_mounts_are_as_agreed(facts: Facts, containers: Group) -> None:
    """Of the host it sees what it needs, writable only where it writes, and no mount of it spreads."""
    data = f"{facts.state}/data/"

    def wrong(one: Container, expected: Expected) -> str:
        spread = [
            m["Destination"] for m in one.inspected["Mounts"] if m.get("Propagation") not in ("", "rprivate")
        ]
        if expected.mounts is None:
            # What an appliance or a job is given differs; it never is a place outside of the site's data.
            more = frozenset(m for m in one.mounts if m[0] == "bind" and not m[1].startswith(data))
            less: frozenset[Mount] = frozenset()
        else:
            more, less = one.mounts - expected.mounts, expected.mounts - one.mounts
        parts = [f"spreads: {', '.join(spread)}" if spread else "", f"also {_shown(more)}" if more else ""]
        return ", ".join(part for part in [*parts, f"not {_shown(less)}" if less else ""] if part)

    assert not containers.offenders(wrong), containers.offenders(wrong)


@pytest.mark.cis("5.32")
def test_it_has_not_the_engines_socket(containers: Group) -> None:
    """The engine's socket is not in it: who has that is root on the host."""

    def wrong(one: Container, _: Expected) -> str:
        return ", ".join(m[1] for m in one.mounts if Path(m[1]).name in ENGINE_SOCKETS)

    assert not containers.offenders(wrong), containers.offenders(wrong)


@pytest.mark.cis("5.18")
def test_it_has_no_devices_of_the_host(containers: Group) -> None:
    """It has no device of the host but those that its appliance's definition names."""

    def wrong(one: Container, expected: Expected) -> str:
        devices = frozenset(device["PathOnHost"] for device in one.host["Devices"] or [])
        return differ(devices, expected.devices)

    assert not containers.offenders(wrong), containers.offenders(wrong)


@pytest.mark.cis("4.1")
def test_it_does_not_run_as_root(containers: Group) -> None:
    """Its first process is not root's."""

    def wrong(one: Container, _: Expected) -> str:
        return "root" if one.user.partition(":")[0] in ("", "0", "root") else ""

    assert not containers.offenders(wrong), containers.offenders(wrong)


def test_it_runs_as_its_user(containers: Group) -> None:
    """It runs as the user that its image or the seat's number says."""

    def wrong(one: Container, expected: Expected) -> str:
        return differ(one.user, expected.user)

    assert not containers.offenders(wrong), containers.offenders(wrong)


@pytest.mark.cis("4.10")
def test_its_environment_holds_no_secret(containers: Group) -> None:
    """Nobody who may inspect it finds a password or token in its environment."""

    def wrong(one: Container, _: Expected) -> str:
        return ", ".join(
            found.partition("=")[0]
            for found in one.inspected["Config"]["Env"] or []
            if SECRET.fullmatch(found)
        )

    assert not containers.offenders(wrong), containers.offenders(wrong)


@pytest.mark.cis("2.13")
def test_its_log_is_bounded(containers: Group) -> None:
    """What it writes is kept, but never fills the disk."""

    def wrong(one: Container, _: Expected) -> str:
        log = one.host["LogConfig"]
        bounded = log["Type"] == "json-file" and {"max-size", "max-file"} <= set(log["Config"])
        return "" if bounded or log["Type"] in ("local", "journald") else f"{log['Type']} without a bound"

    assert not containers.offenders(wrong), containers.offenders(wrong)


@pytest.mark.cis("5.15")
def test_its_restarts_are_counted(containers: Group) -> None:
    """After a failure it is started again, five times at most."""

    def wrong(one: Container, _: Expected) -> str:
        policy = one.host["RestartPolicy"]
        counted = policy["Name"] == "no" or (
            policy["Name"] == "on-failure" and policy["MaximumRetryCount"] <= 5
        )
        return "" if counted else str(policy["Name"])

    assert not containers.offenders(wrong), containers.offenders(wrong)


def test_its_files_are_the_images(changed_files: dict[str, list[str]], containers: Group) -> None:
    """No file in it differs from its image; what is mounted has checks of its own."""
    if not any(one.name in changed_files for one in containers.containers):
        pytest.skip("its root is writable by design, or its servers come and go")
    found = [path for one in containers.containers for path in changed_files.get(one.name, [])]
    assert not found, f"changed: {', '.join(found[:5])}"
