"""Appliances: what a folder may say, what becomes of it for each seat, and what the gate lets through of it."""

import copy
import io
import ipaddress
import itertools
import json
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import ROOT
from wodctl.adapters.appliances import Appliances, Elsewhere, Everything, Placed, handed_over, notebooks_in
from wodctl.adapters.containers import Containers
from wodctl.adapters.machines import Machine, Machines, Opened
from wodctl.errors import ActionFailed, ConfigProblem, ContentProblem, Unavailable
from wodctl.model.appliance import Definition, DefinitionProblem, SeatPlan, documents, work_directory
from wodctl.model.docker_host import DockerHost, hosts_of
from wodctl.model.door import appliance_routes
from wodctl.model.manifest import NEVER, check_compose, define, plain_name, read_manifest
from wodctl.model.ports import Pool, allocate

sys.path.insert(0, str(ROOT / "images" / "gate"))

from wod_gate.policy import Policy, Refused, Site

PLAN = SeatPlan("wod", ipaddress.IPv4Network("10.213.0.0/20"), 1, 60, 2000, 3000)
ALLOWED = ["SETUID", "new-privileges", "/dev/fuse", "seccomp"]
MANIFEST = """\
title: A lab
ports:
  ssh: {port: 22}
  lab: {port: 8888, web: keep, publish: HTTPPORT}
  page: {port: published, web: strip, publish: PAGEPORT}
values:
  LABTOK: {secret: token}
  LABURL: {url: lab}
  LABADDRESS: {address: lab}
login: {http: lab, path: "api?token={LABTOK}"}
work: /student/${WOD_USER}/work
"""
COMPOSE = """\
services:
  appliance:
    extends: {file: "${WOD_APPLIANCE_BASE}", service: appliance}
    mem_limit: 2g
"""
# What Compose makes of a service that has nothing but the base.
BASE: dict[str, Any] = {
    "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"], "read_only": True, "mem_limit": "1073741824",
    "cpus": 1, "cpu_shares": 16, "pids_limit": 256, "stop_grace_period": "5s", "environment": {"PRICE": "1$$"},
    "tmpfs": ["/tmp:mode=1777", "/run:uid=@WOD_UID@"], "user": "@WOD_UID@:@WOD_GID@",
    "healthcheck": {"interval": "30s",
                    "timeout": "5s", "retries": 3, "start_period": "1m0s", "start_interval": "250ms"},
}  # fmt: skip


def defined(manifest: str = MANIFEST, allowed: Any = ALLOWED, **service: Any) -> Definition:
    """The definition of Lab101, with a companion; `service` changes its own container."""
    services = [
        (BASE | service, "wod/appliance/lab101:0123456789ab"),
        (BASE, "wod/appliance/lab101-db:0123456789ab"),
    ]
    profile = '{"defaultAction": "SCMP_ACT_ALLOW"}'
    made = define(
        "Lab101", read_manifest(manifest, "appliance.yml"), services, lambda _: profile, allowed, "Lab101"
    )
    return replace(made, bases={"HTTPPORT": 20000, "PAGEPORT": 20060})


def test_a_workshops_name_is_a_name_of_its_appliance() -> None:
    assert plain_name("WKSHP-Spark101") == plain_name("CHLG-Spark101") == plain_name("Spark101") == "Spark101"
    for name in ("../Spark101", "", "1Spark", "Spark101/x", "a b"):
        with pytest.raises(ContentProblem, match="no name of an appliance"):
            plain_name(name)


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("title: A lab", "titel: A lab", 1, "no key 'titel'"),
        ("title: A lab", "title: [a]", 1, "text of one line"),
        ("port: 22", "port: 70000", 3, "from 1 to 65535"),
        ("port: 22", "prot: 22", 3, "no 'prot'"),
        ("ssh:", "SSH port:", 3, "no name of a port"),
        ("web: keep", "web: yes", 4, "one line|keep or strip"),
        ("publish: PAGEPORT", "publish: HTTPPORT", 5, "of another port already"),
        ("publish: PAGEPORT", "publish: WOD_USER", 5, "name of a variable"),
        (", publish: PAGEPORT", "", 5, "needs `publish"),
        ("secret: token", "secret: hunter2", 7, "must be {secret: token}"),
        ("url: lab", "url: ssh", 8, "has `web`"),
        ("url: lab", "address: nowhere", 8, "address: PORT"),
        ("publish: PAGEPORT", "publish: SSHPORT", 3, "SSHPORT belongs to the port ssh"),
        ("{LABTOK}", "{OTHER}", 10, "none of `values`"),
        ("http: lab", "http: nowhere", 10, "port of `ports`"),
        ("/student/${WOD_USER}/work", "/student/../etc", 11, "full path"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused_with_its_line(old: str, new: str, line: int, what: str) -> None:
    assert old in MANIFEST
    with pytest.raises(ContentProblem, match=what) as refusal:
        read_manifest(MANIFEST.replace(old, new, 1), "Lab101/appliance.yml")
    assert refusal.value.message.startswith(f"Lab101/appliance.yml, line {line}:")


@pytest.mark.parametrize(
    ("addition", "line"),
    [
        ("    privileged: true\n", 5),
        ("    ports: ['80:80']\n", 5),
        ("    network_mode: host\n", 5),
        ("    pid: host\n", 5),
        ("    image: debian\n", 5),
        ("    env_file: /etc/shadow\n", 5),
        ("    volumes_from: [x]\n", 5),
        ("networks: {default: {external: true}}\n", 5),
        ("include: [other.yml]\n", 5),
        ("  db:\n    mem_limit: 1g\n", 6),
        ("  db:\n    extends: {file: /etc/x.yml, service: appliance}\n", 6),
    ],
)
def test_compose_files_say_only_what_has_a_meaning(addition: str, line: int) -> None:
    assert check_compose(COMPOSE, "compose.yml") == ["appliance"]
    with pytest.raises(ContentProblem, match=f"line {line}:"):
        check_compose(COMPOSE + addition, "compose.yml")


@pytest.mark.parametrize(
    ("service", "privilege"),
    [
        ({"cap_add": ["SETUID"]}, "SETUID"),
        ({"cap_add": ["CAP_setuid"]}, "SETUID"),
        ({"security_opt": ["no-new-privileges:true", "no-new-privileges:false"]}, "new-privileges"),
        ({"security_opt": ["seccomp=profile.json"]}, "seccomp"),
        ({"devices": [{"source": "/dev/fuse", "target": "/dev/fuse"}]}, "/dev/fuse"),
    ],
)
def test_a_privilege_needs_a_reason_and_the_sites_word(service: dict[str, Any], privilege: str) -> None:
    reason = f'{MANIFEST}privileges: {{"{privilege}": it is needed}}\n'
    assert defined(reason, **service).privileges == {privilege: "it is needed"}
    with pytest.raises(ContentProblem, match=f"asks for {privilege}, and .* gives no reason"):
        defined(**service)
    with pytest.raises(ContentProblem, match=f"asks for {privilege} .* does not allow"):
        defined(reason, allowed=[], **service)
    with pytest.raises(ContentProblem, match=f"gives a reason for {privilege}, which .* does not ask for"):
        defined(reason)


@pytest.mark.parametrize("capability", sorted(NEVER))
def test_what_is_as_good_as_the_host_is_never_given(capability: str) -> None:
    with pytest.raises(ContentProblem, match="is never given"):
        defined(
            f"{MANIFEST}privileges: {{{capability}: please}}\n", allowed=[capability], cap_add=[capability]
        )


@pytest.mark.parametrize(
    "service",
    [
        {"volumes": [{"type": "bind", "source": "/", "target": "/host"}]},
        {"volumes": [{"type": "volume", "source": "shared", "target": "/data"}]},
        {"security_opt": ["label=disable"]},
        {"security_opt": ["seccomp=/etc/passwd"]},
        {"devices": [{"source": "/dev/sda", "target": "/dev/fuse"}]},
        {"stop_grace_period": "5m0s"},
    ],
)
def test_nothing_of_the_host_gets_into_a_definition(service: dict[str, Any]) -> None:
    with pytest.raises(ContentProblem, match=r"compose\.yml"):
        defined(**service)


def test_a_definition_is_read_as_it_was_written_and_of_no_other_version() -> None:
    definition = defined()
    assert Definition.from_json(definition.to_json()) == definition
    for text in ("", "[]", "{}", definition.to_json().replace('"form": 1', '"form": 2')):
        with pytest.raises(DefinitionProblem):
            Definition.from_json(text)


def test_every_seat_gets_containers_of_its_own() -> None:
    (name, main), (companion, other) = documents(defined(), 17, PLAN)
    assert (name, companion) == ("wod-student17-appliance", "wod-student17-appliance-1")
    assert main["User"] == "2017:3017"
    assert main["HostConfig"]["Tmpfs"]["/run"] == "uid=2017"
    assert {"WOD_USER=student17", "HTTPPORT=20016", "PAGEPORT=20076", "PRICE=1$"} <= set(main["Env"])
    assert main["HostConfig"]["PortBindings"].keys() == {"8888/tcp", "20076/tcp"}
    assert other["HostConfig"]["NetworkMode"] == "container:wod-student17-appliance"
    seats, appliances = (
        {int(ipaddress.ip_address(address(seat))) for seat in range(1, 61)}
        for address in (PLAN.seat_address, PLAN.appliance_address)
    )
    # The packet rules know whose an appliance is by this one bit.
    assert seats == {address | 1 << 11 for address in appliances} and len(seats | appliances) == 120


def test_ports_are_disjoint_stay_where_they_are_and_end_with_a_sentence() -> None:
    pool = Pool(range(20000, 20300), 60, taken=(20070,))
    wanted = {"A": ["HTTPPORT"], "B": ["HTTPPORT", "UI"]}
    first = allocate(wanted, {}, {}, pool)
    bases = sorted(base for found in first.values() for base in found.values())
    assert all(later - base >= 60 for base, later in itertools.pairwise(bases))
    assert not any(base <= 20070 < base + 60 for base in bases)
    more = allocate({"0": ["X"], **wanted}, first, {"HTTPPORT-WKSHP-A": 14151}, pool)
    assert more["B"] == first["B"] and more["A"] == {"HTTPPORT": 14151}
    with pytest.raises(ConfigProblem, match=r"pool of ports is used up: C needs 60 for Y, one for each seat"):
        allocate(wanted | {"C": ["X", "Y"]}, {}, {}, pool)
    with pytest.raises(ConfigProblem, match="overlap"):
        allocate(wanted, {}, {"HTTPPORT-WKSHP-A": 14151, "HTTPPORT-WKSHP-B": 14181}, pool)


def test_pages_are_behind_the_doorman_and_nothing_else_has_a_route() -> None:
    routes = appliance_routes(defined(), 17, 1, PLAN.appliance_address(17))
    assert routes is not None
    routers, middlewares = routes["http"]["routers"], routes["http"]["middlewares"]
    assert sorted(routers) == ["appliance_student17_lab", "appliance_student17_page"]
    for router in routers.values():
        assert "`/user/student17/appliance/" in router["rule"]
        assert middlewares[router["middlewares"][1]]["forwardAuth"]["address"].endswith("/student17")
    assert "stripPrefix" in middlewares[routers["appliance_student17_page"]["middlewares"][2]]
    alone = appliance_routes(
        defined(), 17, 1, PLAN.appliance_address(17), shown_by="student17.seats.example.org"
    )
    assert alone is not None
    for name, router in alone["http"]["routers"].items():
        assert router["rule"] == f"Host(`student17.seats.example.org`) && ({routers[name]['rule']})"


class NoContainers(Containers):
    """An engine that nothing is asked of."""


def test_secrets_are_new_for_each_lease_and_in_no_document(tmp_path: Path) -> None:
    appliances = Appliances(NoContainers(), tmp_path, tmp_path, PLAN, "https://wod.example")
    one, two = appliances.prepare(defined(), 17), appliances.prepare(defined(), 17)
    assert one.secrets != two.secrets and one.host_key != two.host_key
    assert one.values["LABURL"] == "https://wod.example/user/student17/appliance/lab/"
    named = Appliances(NoContainers(), tmp_path, tmp_path, PLAN, "https://{user}.seats.example.org:8443")
    page = "https://student17.seats.example.org:8443/user/student17/appliance/lab/"
    assert named.prepare(defined(), 17).values["LABURL"] == page
    assert (one.values["HTTPPORT"], one.values["IP-WKSHP-Lab101"]) == (20016, "lab101")
    assert one.values["LABADDRESS"] == "lab101:8888"
    assert one.values["LABTOK"] == one.secrets["LABTOK"]
    assert one.secrets["LABTOK"] not in json.dumps(documents(one.definition, 17, PLAN))
    with tarfile.open(fileobj=io.BytesIO(handed_over(one, b"ssh-rsa AAAA"))) as archive:
        names = archive.getnames()
        assert archive.extractfile("authorized_keys").read() == b"ssh-rsa AAAA\n"  # type: ignore[union-attr]
    assert sorted(names) == ["authorized_keys", "secrets", "secrets/LABTOK", "ssh_host_ed25519_key",
                             "ssh_host_ed25519_key.pub"]  # fmt: skip
    assert one.ssh_files["known_hosts"].split()[:2] == [b"lab101", b"ssh-ed25519"]


def test_a_workshop_whose_appliance_is_not_built_says_so(tmp_path: Path) -> None:
    (tmp_path / "known").write_text("Lab101\nOther101\n")
    appliances = Appliances(NoContainers(), tmp_path, tmp_path, PLAN, "")
    with pytest.raises(ActionFailed, match="not built") as refusal:
        appliances.definition("WKSHP-Lab101")
    assert "wodctl build-appliance Lab101" in refusal.value.hint
    assert appliances.definition("WKSHP-Welcome101") is None


def everything(folder: Path, address: Any = None, key: str = "a key") -> Everything:
    """A site that has Lab101, and names a machine for its workshop."""
    (folder / "Lab101.json").write_text(defined().to_json())
    (folder / "key").write_text(key)
    (folder / "hosts").write_text("192.0.2.8 ssh-ed25519 AAAA\n192.0.2.9 ssh-ed25519 BBBB\n")
    machines = Machines("wodadmin", folder / "key", folder / "hosts")
    variables = {} if address is None else {"IP-WKSHP-Lab101": address}
    appliances = Appliances(NoContainers(), folder, folder, PLAN, "")
    return Everything(appliances, machines, Opened(folder / "opened"), variables)


def lab(multi: bool = False) -> Any:
    metadata = SimpleNamespace(range=(11, 30), multiappliance=multi, monoappliance=not multi)
    return SimpleNamespace(name="WKSHP-Lab101", metadata=metadata)


@pytest.mark.parametrize(
    ("address", "multi", "expected"),
    [
        ("192.0.2.7", False, "192.0.2.7"),
        ("192.0.2.254", True, "192.0.3.0"),
        (["192.0.2.7", "192.0.2.8"], False, "192.0.2.7"),
        ("lab.example.net", False, "lab.example.net"),
    ],
)
def test_a_site_says_where_its_machines_are(tmp_path: Path, address: Any, multi: bool, expected: str) -> None:
    """One for all, or counting up from the first seat of the workshop, past the end of a byte."""
    found = everything(tmp_path, address).needed(lab(multi), 13)
    assert found == Machine("WKSHP-Lab101", expected, 13)


def test_an_appliance_is_here_unless_the_site_says_otherwise(tmp_path: Path) -> None:
    assert isinstance(everything(tmp_path).needed(lab(), 13), Definition)
    assert everything(tmp_path, "192.0.2.7", key="").needed(lab(), 13) is None
    with pytest.raises(ActionFailed, match="no address"):
        everything(tmp_path, "x.y.z.t").needed(lab(), 13)
    site = everything(tmp_path)
    (tmp_path / "Lab101.json").unlink()
    with pytest.raises(ActionFailed, match="needs an appliance, and there is none"):
        site.needed(lab(), 13)


def test_the_seat_knows_its_machine_and_no_other(tmp_path: Path) -> None:
    site = everything(tmp_path, "192.0.2.8")
    prepared = site.prepare(Machine("WKSHP-Lab101", "192.0.2.8", 13), 13)
    assert prepared.values["IP-WKSHP-Lab101"] == "192.0.2.8" and prepared.values["PASSSTU"]
    assert prepared.ssh_files["known_hosts"] == b"192.0.2.8 ssh-ed25519 AAAA\n"


# --- on another Docker host ---

HOST = "192.0.2.7"
ELSEWHERE = {"HTTPPORT": 20000, "PAGEPORT": 20060, "SSHPORT": 20120}


class Recorded(Containers):
    """An engine where all goes well, unless it is away, and what it was asked."""

    def __init__(self, away: bool = False) -> None:
        super().__init__(host=HOST)
        self.away = away
        self.asked: list[tuple[str, str]] = []
        self.present: dict[str, Any] = {}
        self.secrets = b""

    def _call(
        self, method: str, path: str, body: Any = None, *_: Any, query: Any = None, **__: Any
    ) -> tuple[int, bytes]:
        if self.away:
            raise Unavailable(f"The Docker host {HOST} is away: no route to host")
        self.asked.append((method, path))
        name = query["name"] if path.endswith("/create") else path.split("/")[2].partition("?")[0]
        if path.endswith("/create"):
            self.present[name] = body
            return 201, b"{}"
        if path.endswith("/archive"):
            self.secrets = body or self.secrets
            return 200, self.secrets
        if method == "DELETE":
            self.present.pop(name, None)
            return 204, b""
        if method == "GET":
            state = {"Status": "running", "Health": {"Status": "healthy"}}
            found = {"State": state, "Config": self.present.get(name)}
            return (200, json.dumps(found).encode()) if name in self.present else (404, b"{}")
        return 204, b""


@dataclass(frozen=True)
class TwoHosts:
    """A site whose Lab101 lives on another host, and both engines."""

    site: Everything
    appliances: Appliances
    here: Recorded
    there: Recorded


@pytest.fixture
def two(tmp_path: Path) -> TwoHosts:
    (tmp_path / "Lab101.json").write_text(replace(defined(), bases=ELSEWHERE).to_json())
    (tmp_path / "hosts").write_text("")
    here, there = Recorded(), Recorded()
    elsewhere = Elsewhere({HOST: there}, tmp_path / "notes")
    appliances = Appliances(here, tmp_path, tmp_path, PLAN, "https://wod.example", elsewhere=elsewhere)
    machines = Machines("wodadmin", tmp_path / "no-key", tmp_path / "hosts")
    site = Everything(appliances, machines, Opened(tmp_path / "opened"), {"IP-WKSHP-Lab101": HOST})
    return TwoHosts(site, appliances, here, there)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ssh://wod@192.0.2.7", DockerHost("192.0.2.7", "wod", 22)),
        ("ssh://wod@lab.example.net:2222", DockerHost("lab.example.net", "wod", 2222)),
        ("tcp://lab.example.net", DockerHost("lab.example.net", "", 2376)),
        ("tcp://lab.example.net:12376", DockerHost("lab.example.net", "", 12376)),
    ],
)
def test_another_docker_host_is_named_by_its_endpoint(text: str, expected: DockerHost) -> None:
    assert DockerHost.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "ssh://lab",
        "tcp://wod@lab",
        "unix:///var/run/docker.sock",
        "tcp://lab:99999",
        "tcp://../x",
        "ssh://-o@x",
    ],
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"neither|port"):
        DockerHost.parse(text)


def test_a_workshops_address_says_which_of_the_hosts_have_its_appliance() -> None:
    hosts = [DockerHost.parse(f"tcp://{name}") for name in ("192.0.2.7", "192.0.2.8", "lab", "192.0.2.1")]
    assert hosts_of(None, hosts) == []
    assert [host.name for host in hosts_of("lab", hosts)] == ["lab"]
    assert [host.name for host in hosts_of(["lab", "192.0.2.1", "192.0.2.99"], hosts)] == ["lab", "192.0.2.1"]
    # A workshop with a machine for each seat counts up from the first.
    assert [host.name for host in hosts_of("192.0.2.7", hosts)] == ["192.0.2.7", "192.0.2.8"]


def test_an_appliance_on_another_host_is_started_there_and_known_there(two: TwoHosts, tmp_path: Path) -> None:
    needed = two.site.needed(lab(), 17)
    assert isinstance(needed, Placed) and needed.host == HOST
    prepared = two.site.prepare(needed, 17)
    assert prepared.values["LABADDRESS"] == f"{HOST}:20016"
    assert {"IP-WKSHP-Lab101": HOST, "HTTPPORT": 20016, "SSHPORT": 20136}.items() <= prepared.values.items()
    config = prepared.ssh_files["config"].decode()  # type: ignore[union-attr]
    assert f"HostName {HOST}\n" in config and "Port 20136\n" in config and config.startswith("Host lab101 ")
    two.site.start(prepared, b"ssh-rsa AAAA")
    assert two.there.present.keys() == {"wod-student17-appliance", "wod-student17-appliance-1"}
    assert two.here.present == {}
    # What is delivered later is told the same.
    assert two.site.values(17) == prepared.values and two.site.values(18) == {}
    routes = json.loads((tmp_path / "appliance-student17.yaml").read_text())["http"]["services"]
    assert routes["appliance_student17_lab"]["loadBalancer"]["servers"] == [{"url": f"http://{HOST}:20016"}]
    two.site.ensure_absent(17)
    assert two.there.present == {} and not (tmp_path / "appliance-student17.yaml").exists()
    asked = len(two.there.asked)
    two.site.ensure_absent(17)
    assert len(two.there.asked) == asked, "nothing is asked of a host that a seat has nothing on"


def test_a_host_that_is_away_is_a_sentence_and_nothing_is_forgotten(two: TwoHosts, tmp_path: Path) -> None:
    prepared = two.site.prepare(two.site.needed(lab(), 17), 17)  # type: ignore[arg-type]
    two.site.start(prepared, b"")
    two.there.away = True
    for attempt in (lambda: two.site.ensure_absent(17), lambda: two.site.start(prepared, b"")):
        with pytest.raises(Unavailable, match=f"The Docker host {HOST} is away"):
            attempt()
    assert (tmp_path / "notes" / "student17").read_text() == HOST
    two.there.away = False
    two.site.ensure_absent(17)
    assert two.there.present == {}


def test_a_host_that_the_site_has_given_up_holds_no_seat_back(two: TwoHosts, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "student17").write_text("192.0.2.99")
    two.site.ensure_absent(17)
    assert not (tmp_path / "notes" / "student17").exists()


def test_an_appliance_elsewhere_has_all_its_ports_outside_and_no_address_of_ours() -> None:
    (_, main), (_, companion) = documents(replace(defined(), bases=ELSEWHERE), 17, PLAN, elsewhere=True)
    assert main["HostConfig"]["PortBindings"].keys() == {"22/tcp", "8888/tcp", "20076/tcp"}
    assert main["HostConfig"]["NetworkMode"] == "wod_appliances" and "NetworkingConfig" not in main
    assert companion["HostConfig"]["NetworkMode"] == "container:wod-student17-appliance"


def test_notebooks_are_read_from_an_archive_made_to_mislead() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("work/1.ipynb", "work/sub/2.ipynb", "../3.ipynb/4.ipynb", "work/5.txt"):
            entry = tarfile.TarInfo(name)
            entry.size = 2
            archive.addfile(entry, io.BytesIO(b"{}"))
        link = tarfile.TarInfo("work/6.ipynb")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/shadow"
        archive.addfile(link)
        huge = tarfile.TarInfo("work/7.ipynb")
        huge.size = 9 * 2**20
        archive.addfile(huge, io.BytesIO(bytes(huge.size)))
    assert notebooks_in(buffer.getvalue()) == [b"{}"]
    assert notebooks_in(buffer.getvalue()[:1500]) in ([], [b"{}"])
    assert notebooks_in(b"") == notebooks_in(b"x" * 2000) == []
    assert work_directory(defined(), 17) == "/student/student17/work"


# --- the gate ---

ENVIRON = {"WOD_PROJECT": "wod", "WOD_STATE": "/var/lib/wod", "WOD_LABS": "lab=wod/lab:0a1b",
           "WOD_COMPILER_IMAGE": "wod/compiler:0a1b", "WOD_EXPORT_IMAGE": "wod/export:0a1b",
           "WOD_SEAT_SUBNET": "10.213.0.0/20"}  # fmt: skip
SETTINGS = {"WODSEATMEMORY": "2G", "WODSEATCPUS": 2.0, "WODSEATPIDS": 512, "UIDBASE": 2000, "GIDBASE": 3000,
            "WODUSERMIN": 1, "WODUSERMAX": 60, "WODAPPLIANCEPRIVILEGES": ALLOWED}  # fmt: skip


def gate(folder: Path, **settings: Any) -> Policy:
    """The policy of a site where Lab101 is built, which has a device and says why."""
    reason = f'{MANIFEST}privileges: {{"/dev/fuse": it is needed}}\n'
    definition = defined(reason, devices=[{"source": "/dev/fuse", "target": "/dev/fuse"}])
    (folder / "Lab101.json").write_text(definition.to_json())
    site = Site.gather(ENVIRON, SETTINGS | settings)
    return Policy((ROOT / "conf" / "gate" / "policy.yml").read_text(), site, folder)


def ask(policy: Policy, name: str, document: Any, client: str = "worker") -> Any:
    target = f"/v1.45/containers/create?name={name}"
    return json.loads(policy.check(client, "POST", target, [], json.dumps(document).encode()).body)


def made(folder: Path, seat: int = 17) -> list[tuple[str, dict[str, Any]]]:
    return documents(Definition.from_json((folder / "Lab101.json").read_text()), seat, PLAN)


def test_the_gate_lets_through_what_is_defined(tmp_path: Path) -> None:
    policy = gate(tmp_path)
    for name, document in made(tmp_path):
        assert ask(policy, name, document) == document


def test_the_gate_of_another_host_lets_appliances_through_as_they_are_there_and_nothing_else(
    tmp_path: Path,
) -> None:
    gate(tmp_path)
    path = tmp_path / "Lab101.json"
    definition = replace(Definition.from_json(path.read_text()), bases=ELSEWHERE)
    path.write_text(definition.to_json())
    text = (ROOT / "conf" / "gate" / "policy.yml").read_text()
    site = Site.gather(ENVIRON, SETTINGS)
    here, there = Policy(text, site, tmp_path), Policy(text, site, tmp_path, elsewhere=True)
    assert there.uids == {"worker": 1804}
    for name, document in documents(definition, 17, PLAN, elsewhere=True):
        assert ask(there, name, document) == document
    name, local = documents(definition, 17, PLAN)[0]
    _, remote = documents(definition, 17, PLAN, elsewhere=True)[0]
    for policy, document in ((there, local), (here, remote)):
        with pytest.raises(Refused, match="not as the appliance is defined"):
            ask(policy, name, document)
    for call in ("GET /containers/wod-student3/json", "DELETE /containers/wod-student3", "GET /images/json",
                 "DELETE /containers/wod-script3", "POST /containers/create?name=wod-script3"):  # fmt: skip
        method, target = call.split(" ")
        with pytest.raises(Refused):
            there.check("worker", method, target, [], b"{}" if method == "POST" else b"")
    path.write_text(defined().to_json())  # as it was before the site named another host
    with pytest.raises(Refused, match="no ports on another host"):
        ask(there, name, remote)


def host(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["HostConfig"].update(fields)


ATTACKS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "privileged": host(Privileged=True),
    "capability": host(CapAdd=["SYS_ADMIN"]),
    "host network": host(NetworkMode="host"),
    "network of a service": host(NetworkMode="container:wod-gate-1"),
    "host processes": host(PidMode="host"),
    "host users": host(UsernsMode="host"),
    "engine's socket": host(Binds=["/var/run/docker.sock:/s"]),
    "a home": host(Mounts=[{"Type": "bind", "Source": "/var/lib/wod/data/students", "Target": "/x"}]),
    "device": host(
        Devices=[{"PathOnHost": "/dev/sda", "PathInContainer": "/dev/sda", "CgroupPermissions": "rw"}]
    ),
    "no limits": host(Memory=0),
    "all ports": host(PublishAllPorts=True),
    "another's port": host(PortBindings={"8888/tcp": [{"HostIp": "0.0.0.0", "HostPort": "20000"}]}),
    "another image": lambda document: document.update(Image="wod/worker:0a1b"),
    "another's address": lambda document: document["NetworkingConfig"]["EndpointsConfig"]["wod_seats"].update(
        IPAMConfig={"IPv4Address": PLAN.appliance_address(18)}
    ),
    "another user": lambda document: document.update(User="0:0"),
    "a command": lambda document: document.update(Cmd=["sh"]),
    "a field in other letters": lambda document: document.update(hostconfig={"Privileged": True}),
    "a truth that is a number": host(ReadonlyRootfs=1),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_gate_refuses_what_is_not_exactly_as_defined(tmp_path: Path, attack: str) -> None:
    policy = gate(tmp_path)
    name, document = copy.deepcopy(made(tmp_path)[0])
    ATTACKS[attack](document)
    with pytest.raises(Refused):
        ask(policy, name, document)


def test_the_gate_keeps_appliances_to_their_seats_and_to_the_worker(tmp_path: Path) -> None:
    policy = gate(tmp_path)
    (name, document), (companion, other) = made(tmp_path)
    for wrong in ("wod-student18-appliance", companion, "wod-student17", "wod-student61-appliance"):
        with pytest.raises(Refused):
            ask(policy, wrong, document)
    with pytest.raises(Refused):
        ask(policy, "wod-student17-appliance-2", other)
    with pytest.raises(Refused):
        ask(policy, name, document, client="hub")
    unknown = document | {"Labels": document["Labels"] | {"wod.appliance.name": "../../etc/x"}}
    with pytest.raises(Refused, match="must be the name"):
        ask(policy, name, unknown)
    unknown["Labels"]["wod.appliance.name"] = "Other101"
    with pytest.raises(Refused, match="not defined"):
        ask(policy, name, unknown)


def test_what_a_site_withdraws_is_withdrawn_from_what_is_built(tmp_path: Path) -> None:
    policy = gate(tmp_path, WODAPPLIANCEPRIVILEGES=["SETUID"])
    with pytest.raises(Refused, match="does not allow appliances /dev/fuse"):
        ask(policy, *made(tmp_path)[0])


@pytest.mark.parametrize("change", [host(CapAdd=["SYS_ADMIN"]), host(Privileged=True), host(IpcMode="host"),
                                    host(SecurityOpt=[]), host(PidMode="host"), host(CapDrop=[]),
                                    host(Mounts=[{"Type": "bind", "Source": "/", "Target": "/x"}])])  # fmt: skip
def test_a_definition_that_gives_more_than_its_reasons_is_worth_nothing(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    """Whatever made it so: the gate looks itself."""
    policy = gate(tmp_path)
    definition = Definition.from_json((tmp_path / "Lab101.json").read_text())
    change(definition.containers[0])  # type: ignore[arg-type]
    (tmp_path / "Lab101.json").write_text(definition.to_json())
    with pytest.raises(Refused, match="does not allow appliances"):
        ask(policy, *made(tmp_path)[0])


@pytest.mark.parametrize(
    "call",
    [
        "PUT /v1.45/containers/wod-student17-appliance/archive?path=/etc",
        "PUT /v1.45/containers/wod-student17/archive?path=/run/wod-appliance",
        "POST /v1.45/containers/wod-student17-appliance/exec",
        "POST /v1.45/containers/wod-student17-appliance/update",
        "GET /v1.45/containers/wod-student17/archive?path=/student/student17",
        "DELETE /v1.45/volumes/x",
    ],
)
def test_the_gate_lets_the_worker_do_no_more_than_it_has_to(tmp_path: Path, call: str) -> None:
    method, target = call.split(" ")
    with pytest.raises(Refused):
        gate(tmp_path).check("worker", method, target, [], b"")
