"""What `wodctl host apply` brought to this host; its role's own values are what is expected."""

import json
import re
from typing import Any

import pytest
import yaml

from tests.compliance.facts import Facts
from wodctl.commands.host import published_ports

pytestmark = pytest.mark.host

RECORD = "/var/lib/wod-host"
ROLE = "ansible-host/roles/wod_host"


@pytest.fixture(scope="module")
def role(facts: Facts) -> dict[str, Any]:
    """The values that the role sets."""
    return dict(yaml.safe_load((facts.root / ROLE / "defaults/main.yml").read_text()))


@pytest.fixture(scope="module")
def family(facts: Facts, host: Any) -> dict[str, Any]:
    """What is called differently from distribution to distribution."""
    name = "RedHat" if host.system_info.distribution in ("rocky", "rhel", "almalinux", "centos") else "Debian"
    return dict(yaml.safe_load((facts.root / ROLE / "vars" / f"{name}.yml").read_text()))


@pytest.fixture(scope="module")
def systemd(host: Any) -> None:
    """Only where systemd is process 1."""
    if not host.file("/run/systemd/system").is_directory:
        pytest.skip("this host has no systemd")


def file_is(host: Any, name: str, mode: int, user: str = "root") -> None:
    """Fail unless the file is there, that user's, with that mode."""
    file = host.file(name)
    assert file.exists, f"{name} is not there (`wodctl host apply`)"
    assert (file.user, file.mode) == (user, mode), (
        f"{name} is {file.user} {file.mode:04o}, expected {user} {mode:04o}"
    )


def is_enabled(host: Any, unit: str) -> bool:
    """Whether systemd starts the unit at boot; one that it does not know is not."""
    return bool(host.run("systemctl is-enabled -- %s", unit).stdout.strip() == "enabled")


def test_the_role_was_applied(host: Any) -> None:
    """`wodctl host apply` was run here."""
    assert host.file(RECORD).is_directory, "it was not (`wodctl host apply`)"


def test_kernel_values_are_in_force(host: Any, role: dict[str, Any]) -> None:
    """The kernel's values are those of the role."""
    wrong = [
        f"{n} is {host.sysctl(n)}, expected {v}"
        for n, v in role["wod_host_sysctl"].items()
        if host.sysctl(n) != v
    ]
    assert not wrong, "; ".join(wrong)


def test_kernel_values_are_kept(host: Any, role: dict[str, Any]) -> None:
    """They are set at each start, too."""
    file_is(host, "/etc/sysctl.d/60-wod.conf", 0o644)
    text = host.file("/etc/sysctl.d/60-wod.conf").content_string
    missing = [name for name, value in role["wod_host_sysctl"].items() if f"{name} = {value}" not in text]
    assert not missing, ", ".join(missing)


def test_packets_are_forwarded(host: Any) -> None:
    """The host forwards packets, which containers need."""
    assert host.sysctl("net.ipv4.ip_forward") == 1


def test_limits_of_the_administrator(facts: Facts, host: Any, role: dict[str, Any]) -> None:
    """He has processes and open files for work on hundreds of seats."""
    file_is(host, "/etc/security/limits.d/60-wod.conf", 0o644)
    text = host.file("/etc/security/limits.d/60-wod.conf").content_string
    user = facts.settings.WODUSER
    wanted = [
        f"{user} {kind} {n} {v}" for n, v in role["wod_host_limits"].items() for kind in ("soft", "hard")
    ]
    missing = [line for line in wanted if line not in text.splitlines()]
    assert not missing, "; ".join(missing)


def test_tasks_of_a_logged_in_user(host: Any, role: dict[str, Any]) -> None:
    """systemd lets a user who is logged in have as many tasks as that takes."""
    file_is(host, "/etc/systemd/system/user-.slice.d/60-wod.conf", 0o644)
    text = host.file("/etc/systemd/system/user-.slice.d/60-wod.conf").content_string
    assert f"TasksMax={role['wod_host_tasks_max']}" in text.splitlines()


def test_something_keeps_the_time(host: Any, family: dict[str, Any], systemd: None) -> None:
    """A time service runs, and is started at boot."""
    names = family["wod_host_time_services"]
    running = [name for name in names if host.service(name).is_running]
    assert running, f"none of {', '.join(names)} runs"
    assert any(is_enabled(host, f"{name}.service") for name in running), (
        f"{running[0]} is not started at boot"
    )


def test_security_updates_come_by_themselves(host: Any, systemd: None) -> None:
    """Security updates are installed daily, and no others."""
    if host.file("/etc/dnf").is_directory:
        assert is_enabled(host, "dnf-automatic.timer"), "dnf-automatic.timer is off"
        return
    file_is(host, "/etc/apt/apt.conf.d/60-wod", 0o644)
    text = host.file("/etc/apt/apt.conf.d/60-wod").content_string
    assert 'APT::Periodic::Unattended-Upgrade "1";' in text, "they are switched off"
    assert is_enabled(host, "apt-daily-upgrade.timer"), "apt-daily-upgrade.timer is off"


def test_the_host_knows_its_name(facts: Facts, host: Any) -> None:
    """The name by which participants know this host leads to an address here, too."""
    name = facts.settings.WODBEEXTFQDN
    assert host.addr(name).is_resolvable, f"{name} has no address"


def test_packet_rules_of_the_host_are_loaded(facts: Facts, host: Any) -> None:
    """Strangers reach the ports of the settings, and no others that containers publish."""
    if not facts.settings.WODHOSTFIREWALL:
        pytest.skip("WODHOSTFIREWALL is off")
    done = host.run("nft -j list table inet wod_host")
    assert done.rc == 0, "the table inet wod_host is not loaded (`systemctl start wod-host-firewall`)"
    # A list of networks may go over several lines.
    text = re.sub(r",\s*\n\s*", ", ", host.run("nft list chain inet wod_host strangers").stdout)
    wanted = [entry["port"] for entry in published_ports(facts.settings)]
    missing = [port for port in wanted if f"proto-dst {port}" not in text]
    assert not missing, f"closed: {', '.join(missing)}"
    rules = [line.strip() for line in text.splitlines() if not line.rstrip().endswith(("{", "}"))]
    wide = [rule for rule in rules[:-1] if not re.match(r"(meta l4proto tcp )?ct original proto-dst ", rule)]
    assert not wide, f"open to strangers: {'; '.join(wide)}"
    assert rules[-1:] == ["drop"], "what no rule names is open to strangers"
    assert not [rule for rule in json.loads(done.stdout)["nftables"] if _lets_all_in(rule)], (
        "input lets everything in"
    )


def _lets_all_in(rule: dict[str, Any]) -> bool:
    chain = rule.get("chain", {})
    return chain.get("name") == "input" and chain.get("policy") != "drop"


def test_packet_rules_are_loaded_at_boot(facts: Facts, host: Any, systemd: None) -> None:
    """The packet rules are there before the network is."""
    if not facts.settings.WODHOSTFIREWALL:
        pytest.skip("WODHOSTFIREWALL is off")
    assert is_enabled(host, "wod-host-firewall.service"), "wod-host-firewall.service is not started at boot"


def test_only_our_ports_are_open(facts: Facts, host: Any) -> None:
    """Beside sshd and the ports of the settings nothing on this host listens to the network."""
    allowed = {22, *facts.settings.WODHOSTPORTS}
    for entry in published_ports(facts.settings):
        first, _, last = entry["port"].partition("-")
        allowed |= set(range(int(first), int(last or first) + 1))
    wrong = set()
    for listening in host.socket.get_listening_sockets():
        kind, _, place = listening.partition("://")
        address, _, port = place.rpartition(":")
        if kind == "tcp" and not address.startswith(("127.", "::1", "[::1")) and int(port) not in allowed:
            wrong.add(int(port))
    assert not wrong, f"open: {', '.join(map(str, sorted(wrong)))} (WODHOSTPORTS names those that are meant)"


def test_the_administrator_has_few_rights(facts: Facts, host: Any) -> None:
    """He has no password, a home of his own, and by sudo what looks after seats."""
    user = facts.settings.WODUSER
    assert host.user(user).exists, f"there is no user {user}"
    file_is(host, "/etc/sudoers.d/60-wod", 0o440)
    home = f"/home/{user}"
    for name, mode in ((home, 0o750), (f"{home}/.ssh", 0o700), (f"{home}/.ssh/authorized_keys", 0o600)):
        file_is(host, name, mode, user)
    groups = set(host.user(user).groups) & {"docker", "sudo", "wheel", "root", "adm"}
    assert not groups, f"he is in {', '.join(sorted(groups))}, which is as good as root"


def test_the_command_for_every_day_is_there(host: Any) -> None:
    """/usr/local/sbin/wod is root's, and starts this checkout."""
    file_is(host, "/usr/local/sbin/wod", 0o755)


def test_the_engine_has_the_roles_settings(host: Any, role: dict[str, Any]) -> None:
    """/etc/docker/daemon.json has what the role sets, beside what is the site's."""
    file = host.file("/etc/docker/daemon.json")
    seen = json.loads(file.content_string) if file.exists and file.size else {}
    wrong = [name for name, value in role["wod_host_engine"].items() if seen.get(name) != value]
    assert not wrong, f"{', '.join(wrong)} differ (`wodctl host apply`)"


def test_all_starts_at_boot(host: Any, role: dict[str, Any], systemd: None) -> None:
    """The engine and the stack are started at boot, and our timers run."""
    units = role["wod_host_units"]
    timers = [name for name in units if name.endswith(".timer")]
    # What a timer starts is not started at boot.
    at_boot = [
        name
        for name in units
        if name.endswith(".service") and name.replace(".service", ".timer") not in timers
    ]
    off = [name for name in ("docker.service", *at_boot, *timers) if not is_enabled(host, name)]
    off += [name for name in timers if name not in off and not host.service(name).is_running]
    assert not off, f"{', '.join(off)}"
