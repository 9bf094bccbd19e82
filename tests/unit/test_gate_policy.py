"""The gate's policy: what the hub's spawner sends passes, and each way to more than that is refused."""

import copy
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "images" / "gate"))

from wod_gate.policy import Policy, PolicyProblem, Refused, Site

TEXT = (ROOT / "conf" / "gate" / "policy.yml").read_text()
ENVIRON = {
    "WOD_PROJECT": "wod",
    "WOD_STATE": "/var/lib/wod",
    "WOD_LABS": "lab=wod/lab:0a1b jvm=wod/labs/jvm:0a1b",
    "WOD_SEAT_SUBNET": "10.213.0.0/20",
    "WOD_COMPILER_IMAGE": "wod/compiler:2c3d",
    "WOD_EXPORT_IMAGE": "wod/export:4e5f",
}
SETTINGS = {
    "WODSEATMEMORY": "2G",
    "WODSEATCPUS": 2.0,
    "WODSEATPIDS": 512,
    "UIDBASE": 2000,
    "GIDBASE": 3000,
    "WODUSERMIN": 1,
    "WODUSERMAX": 60,
    "WODAPPLIANCEPRIVILEGES": ["SETUID", "/dev/fuse"],
}
POLICY = Policy(TEXT, Site.gather(ENVIRON, SETTINGS))
CREATE = "/v1.45/containers/create?name=wod-student3"
SERVER = "0123456789abcdef" * 4

# What docker-py 7.1 sends for the hub's spawner (recorded).
RECORDED: dict[str, Any] = {
    "Hostname": "student3",
    "ExposedPorts": {"8888/tcp": None},
    "User": "2003:3003",
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "AttachStdin": False,
    "AttachStdout": True,
    "AttachStderr": True,
    "Env": ["JUPYTERHUB_API_TOKEN=0123", "A=b\nc=d"],
    "Image": "wod/lab:0a1b",
    "Volumes": {},
    "NetworkDisabled": False,
    "WorkingDir": "/student/student3",
    "NetworkingConfig": {"EndpointsConfig": {"wod_seats": {"IPAMConfig": {"IPv4Address": "10.213.8.18"}}}},
    "HostConfig": {
        "Memory": 2147483648,
        "MemorySwap": 2147483648,
        "ReadonlyRootfs": True,
        "NetworkMode": "wod_seats",
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "CgroupnsMode": "private",
        "Binds": [],
        "Links": [],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
        "CpuQuota": 200000,
        "CpuPeriod": 100000,
        "Tmpfs": {
            "/tmp": "exec,nosuid,nodev,mode=1777",
            "/run": "nosuid,nodev,mode=0755,uid=2003,gid=3003",
            "/var/lib/extrausers": "nosuid,nodev,mode=0755,size=64k,uid=2003,gid=3003",
        },
        "CpuShares": 16,
        "PidsLimit": 512,
        "AutoRemove": True,
        "Mounts": [
            {
                "Target": "/student/student3",
                "Source": "/var/lib/wod/data/students/student3",
                "Type": "bind",
                "ReadOnly": False,
            }
        ],
    },
    "Labels": {"wod.project": "wod", "wod.seat": "3"},
}


def check(method: str, target: str, body: bytes = b"", headers: tuple[tuple[str, str], ...] = ()) -> Any:
    """The policy's word on a request of the hub."""
    return POLICY.check("hub", method, target, headers, body)


def create(document: object, target: str = CREATE) -> dict[str, Any]:
    """The document that the engine gets for this one."""
    return json.loads(check("POST", target, json.dumps(document).encode()).body)


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The recorded document with one change."""
    document = copy.deepcopy(RECORDED)
    change(document)
    return document


def test_what_the_spawner_sends_passes_as_it_is() -> None:
    """A seat's server can be created."""
    assert create(RECORDED) == RECORDED


def test_a_seat_may_be_made_of_each_lab_that_was_built() -> None:
    """Exactly those images; neither a lab of another build nor a name that begins like one."""
    jvm = RECORDED | {"Image": "wod/labs/jvm:0a1b"}
    assert create(jvm) == jvm
    for image in (
        "wod/labs/jvm:0a1c",
        "wod/labs/go:0a1b",
        "wod/labs/jvm",
        "wod/lab:0a1b wod/labs/jvm:0a1b",
        "",
    ):
        with pytest.raises(Refused, match="Image must be one of"):
            create(RECORDED | {"Image": image})
    assert check("GET", "/images/wod/labs/jvm:0a1b/json").target() == "/images/wod/labs/jvm:0a1b/json"


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/_ping"),
        ("GET", "/version"),
        ("GET", "/v1.45/version"),
        ("GET", "/v1.45/images/wod/lab:0a1b/json"),
        ("GET", "/v1.45/containers/wod-student3/json"),
        ("GET", f"/v1.45/containers/{SERVER}/json"),
        ("GET", f"/v1.45/containers/{SERVER}/logs?stdout=True&stderr=True&tail=20"),
        ("POST", f"/v1.45/containers/{SERVER}/start"),
        ("POST", f"/v1.45/containers/{SERVER}/stop?t=2"),
        ("POST", f"/v1.45/containers/{SERVER}/kill?signal=SIGKILL"),
        ("POST", f"/v1.45/containers/{SERVER}/wait?condition=not-running"),
        ("DELETE", f"/v1.45/containers/{SERVER}?v=True&link=False&force=True"),
    ],
)
def test_a_call_of_the_list_passes(method: str, target: str) -> None:
    """What the spawner asks for is forwarded."""
    call = check(method, target)
    assert (call.method, call.target(call.container)) == (method, target)


def test_a_call_is_made_about_the_container_that_was_inspected() -> None:
    """A name is replaced by the id that was checked."""
    call = check("POST", "/v1.45/containers/wod-student3/stop?t=2")
    assert call.container == "wod-student3"
    assert call.target(SERVER) == f"/v1.45/containers/{SERVER}/stop?t=2"


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/containers/json"),
        ("GET", "/info"),
        ("GET", "/events"),
        ("GET", "/images/json"),
        ("GET", "/images/wod/hub:0a1b/json"),
        ("GET", "/images/wod/lab:0a1c/json"),
        ("GET", "/images/wod/labs/jvm:0a1c/json"),
        ("POST", f"/containers/{SERVER}/exec"),
        ("POST", "/exec/0123/start"),
        ("POST", f"/containers/{SERVER}/attach?stream=1"),
        ("GET", f"/containers/{SERVER}/attach/ws"),
        ("POST", f"/containers/{SERVER}/update"),
        ("POST", f"/containers/{SERVER}/rename?name=wod-student4"),
        ("GET", f"/containers/{SERVER}/archive?path=/"),
        ("PUT", f"/containers/{SERVER}/archive?path=/"),
        ("HEAD", f"/containers/{SERVER}/archive?path=/"),
        ("GET", f"/containers/{SERVER}/export"),
        ("GET", f"/containers/{SERVER}/top"),
        ("POST", "/containers/prune"),
        ("POST", f"/commit?container={SERVER}"),
        ("POST", "/build"),
        ("POST", "/images/create?fromImage=x"),
        ("POST", "/images/load"),
        ("POST", "/volumes/create"),
        ("POST", "/volumes/prune"),
        ("GET", "/volumes"),
        ("GET", "/networks"),
        ("POST", "/networks/create"),
        ("POST", "/networks/wod_control/connect"),
        ("POST", "/networks/wod_seats/connect"),
        ("POST", "/swarm/init"),
        ("GET", "/secrets"),
        ("GET", "/configs"),
        ("POST", "/services/create"),
        ("POST", "/plugins/pull"),
        ("POST", "/session"),
        ("POST", "/grpc"),
        ("POST", "/auth"),
        ("CONNECT", "/_ping"),
        ("get", "/_ping"),
        ("POST", "/_ping"),
        # Other containers.
        ("GET", "/containers/wod-hub-1/json"),
        ("GET", "/containers/wod2-student3/json"),
        ("GET", "/containers/xwod-student3/json"),
        ("GET", "/containers/wod-student3x/json"),
        ("GET", "/containers/wod-student03/json"),
        ("GET", "/containers/wod-student0/json"),
        ("GET", "/containers/0123456789ab/json"),
        ("GET", f"/containers/{SERVER.upper()}/json"),
        ("GET", f"/containers/{SERVER}0/json"),
        # Paths that are read differently by different readers.
        ("GET", "//_ping"),
        ("GET", "/./_ping"),
        ("GET", "/v1.45/../_ping"),
        ("GET", "/v1.45//version"),
        ("GET", "/version/"),
        ("GET", "/%5fping"),
        ("GET", "/containers/wod-student3%2f..%2fwod-hub-1/json"),
        ("GET", "/containers/wod-student3/../wod-hub-1/json"),
        ("GET", "/containers/%2e%2e/json"),
        ("GET", "/containers/wod-student3/json#/exec"),
        ("GET", "/containers/wod-student3/json;x"),
        ("GET", "/containers\\wod-student3\\json"),
        ("GET", "/containers/wod-student3/json\x00"),
        ("GET", "/containers/wod-student3/json\n"),
        ("GET", "/containers/wod-studént3/json"),
        ("GET", "http://engine/version"),
        ("OPTIONS", "*"),
        ("GET", ""),
        # Versions.
        ("GET", "/v1.40/version"),
        ("GET", "/v1.24/version"),
        ("GET", "/v1.4/version"),
        ("GET", "/v2.0/version"),
        ("GET", "/v1.045/version"),
        ("GET", "/V1.45/version"),
        ("GET", "/v1.45/v1.45/version"),
        # Queries.
        ("GET", f"/containers/{SERVER}/json?size=1"),
        ("POST", f"/containers/{SERVER}/stop?t=2&t=3"),
        ("POST", f"/containers/{SERVER}/stop?t=%32"),
        ("POST", f"/containers/{SERVER}/stop?t=2;signal=9"),
        ("POST", f"/containers/{SERVER}/stop?t"),
        ("POST", f"/containers/{SERVER}/stop?&t=2"),
        ("POST", f"/containers/{SERVER}/start?checkpoint=x"),
        ("POST", f"/containers/{SERVER}/start?detachKeys=x"),
        ("DELETE", f"/containers/{SERVER}?link=True"),
    ],
)
def test_a_call_outside_the_list_is_refused(method: str, target: str) -> None:
    """Only calls of the list pass, written in the one plain way."""
    with pytest.raises(Refused):
        check(method, target)


@pytest.mark.parametrize(
    "target",
    [
        "/v1.45/containers/create",
        "/v1.45/containers/create?name=",
        "/v1.45/containers/create?name=student3",
        "/v1.45/containers/create?name=/wod-student3",
        "/v1.45/containers/create?name=wod-student4",
        "/v1.45/containers/create?name=wod-student0",
        "/v1.45/containers/create?name=wod-student03",
        "/v1.45/containers/create?name=wod-student61",
        "/v1.45/containers/create?name=wod-student-1",
        "/v1.45/containers/create?name=wod-hub-1",
        "/v1.45/containers/create?name=other-student3",
        "/v1.45/containers/create?name=wod-student3&platform=linux",
        "/v1.45/containers/create?name=wod-student3&name=wod-student3",
        "/v1.40/containers/create?name=wod-student3",
    ],
)
def test_a_server_has_the_name_of_its_seat(target: str) -> None:
    """A server of seat 3 can only be created as the server of seat 3."""
    with pytest.raises(Refused):
        create(RECORDED, target)


def host(**fields: object) -> Callable[[dict[str, Any]], object]:
    """Change fields of HostConfig."""
    return lambda document: document["HostConfig"].update(fields)


def top(**fields: object) -> Callable[[dict[str, Any]], object]:
    """Change fields of the document itself."""
    return lambda document: document.update(fields)


def mount(**fields: object) -> Callable[[dict[str, Any]], object]:
    """Change fields of the mount of the home."""
    return lambda document: document["HostConfig"]["Mounts"][0].update(fields)


def without(*path: str) -> Callable[[dict[str, Any]], object]:
    """Leave a field out."""

    def leave_out(document: dict[str, Any]) -> None:
        for name in path[:-1]:
            document = document[name]
        del document[path[-1]]

    return leave_out


ATTACKS = {
    "privileged": host(Privileged=True),
    "privileged in small letters": host(privileged=True),
    "privileged in capitals": host(PRIVILEGED=True),
    "privileged with a letter that folds": host(**{"Priv\u0131leged": True}),
    "privileged false in small letters": host(privileged=False),
    "host config in small letters": top(hostconfig={"Privileged": True}),
    "host config with a long s, which folds to s": top(**{"Ho\u017ftConfig": {"Privileged": True}}),
    "network with a kelvin sign, which folds to k": host(**{"Networ\u212aMode": "host"}),
    "memory in small letters beside memory": host(memory=0),
    "image in small letters": top(image="wod/hub:0a1b"),
    "capability": host(CapAdd=["SYS_ADMIN"]),
    "a harmless capability": host(CapAdd=["NET_RAW"]),
    "capabilities kept": host(CapDrop=[]),
    "some capabilities dropped": host(CapDrop=["NET_RAW"]),
    "capabilities not dropped": without("HostConfig", "CapDrop"),
    "old list of capabilities": host(Capabilities=["CAP_SYS_ADMIN"]),
    "pid of the host": host(PidMode="host"),
    "pid of a container": host(PidMode="container:wod-hub-1"),
    "ipc of the host": host(IpcMode="host"),
    "ipc of a container": host(IpcMode="container:wod-hub-1"),
    "uts of the host": host(UTSMode="host"),
    "users of the host": host(UsernsMode="host"),
    "cgroups of the host": host(CgroupnsMode="host"),
    "cgroups of the host by leaving out, where they are the default": without("HostConfig", "CgroupnsMode"),
    "cgroup of a container": host(Cgroup="container:wod-hub-1"),
    "cgroup parent": host(CgroupParent="/"),
    "network of the host": host(NetworkMode="host"),
    "network of a container": host(NetworkMode="container:wod-hub-1"),
    "default network": host(NetworkMode="default"),
    "bridge network": host(NetworkMode="bridge"),
    "network of the hub": host(NetworkMode="wod_control"),
    "no network mode": without("HostConfig", "NetworkMode"),
    "second network": top(NetworkingConfig={"EndpointsConfig": {"wod_control": {}}}),
    "alias on the network": top(NetworkingConfig={"EndpointsConfig": {"wod_seats": {"Aliases": ["hub"]}}}),
    "address of the hub": top(
        NetworkingConfig={"EndpointsConfig": {"wod_seats": {"IPAMConfig": {"IPv4Address": "10.0.0.2"}}}}
    ),
    "mac address": top(MacAddress="02:42:ac:11:00:02"),
    "host name of another": top(Hostname="hub"),
    "domain name": top(Domainname="control"),
    "links": host(Links=["wod-db-1:db"]),
    "extra hosts": host(ExtraHosts=["hub:10.0.0.9"]),
    "resolver": host(Dns=["10.0.0.9"]),
    "root of the host by bind": host(Binds=["/:/host"]),
    "socket of the engine by bind": host(Binds=["/var/run/docker.sock:/s"]),
    "home by bind": host(Binds=["/var/lib/wod/data/students/student3:/student/student3:rw"]),
    "named volume by bind": host(Binds=["wod_data:/data"]),
    "anonymous volume": top(Volumes={"/data": {}}),
    "volume driver": host(VolumeDriver="local"),
    "volumes of the hub": host(VolumesFrom=["wod-hub-1"]),
    "root of the host by mount": mount(Source="/"),
    "home of another seat": mount(Source="/var/lib/wod/data/students/student4"),
    "all homes": mount(Source="/var/lib/wod/data/students"),
    "way up": mount(Source="/var/lib/wod/data/students/student3/.."),
    "inside of the home": mount(Source="/var/lib/wod/data/students/student3/link"),
    "slash at the end": mount(Source="/var/lib/wod/data/students/student3/"),
    "other spelling": mount(Source="/var/lib/wod/data//students/student3"),
    "state of another stack": mount(Source="/var/lib/wod2/data/students/student3"),
    "source in small letters": mount(source="/"),
    "mounted elsewhere": mount(Target="/etc"),
    "volume in place of the home": mount(Type="volume"),
    "volume with a driver": mount(
        VolumeOptions={"DriverConfig": {"Name": "local", "Options": {"device": "/"}}}
    ),
    "propagation": mount(BindOptions={"Propagation": "rshared"}),
    "read-only as a number": mount(ReadOnly=0),
    "two mounts": lambda d: d["HostConfig"]["Mounts"].append(
        {"Type": "bind", "Source": "/", "Target": "/host"}
    ),
    "no mount": host(Mounts=[]),
    "mounts that are no list": host(Mounts={"0": {}}),
    "tmpfs on a place of the image": lambda d: d["HostConfig"]["Tmpfs"].update({"/etc": ""}),
    "tmpfs with devices": lambda d: d["HostConfig"]["Tmpfs"].update({"/tmp": "exec,dev"}),
    "tmpfs with set-uid": lambda d: d["HostConfig"]["Tmpfs"].update({"/tmp": "exec,suid"}),
    "tmpfs of another seat": lambda d: d["HostConfig"]["Tmpfs"].update(
        {"/run": "nosuid,nodev,mode=0755,uid=2004,gid=3003"}
    ),
    "device": host(
        Devices=[{"PathOnHost": "/dev/sda", "PathInContainer": "/dev/sda", "CgroupPermissions": "rwm"}]
    ),
    "device rule": host(DeviceCgroupRules=["a *:* rwm"]),
    "device request": host(DeviceRequests=[{"Count": -1, "Capabilities": [["gpu"]]}]),
    "no list of devices": host(Devices=[]),
    "seccomp off": host(SecurityOpt=["no-new-privileges:true", "seccomp=unconfined"]),
    "apparmor off": host(SecurityOpt=["apparmor=unconfined"]),
    "labels off": host(SecurityOpt=["no-new-privileges:true", "label=disable"]),
    "system paths": host(SecurityOpt=["no-new-privileges:true", "systempaths=unconfined"]),
    "new privileges": host(SecurityOpt=["no-new-privileges:false"]),
    "no security options": without("HostConfig", "SecurityOpt"),
    "paths unmasked by an empty list": host(MaskedPaths=[]),
    "paths writable by an empty list": host(ReadonlyPaths=[]),
    "sysctl": host(Sysctls={"net.ipv4.ip_forward": "1"}),
    "published port": host(PortBindings={"8888/tcp": [{"HostPort": "8888"}]}),
    "all ports published": host(PublishAllPorts=True),
    "another exposed port": top(ExposedPorts={"22/tcp": {}}),
    "writable root": host(ReadonlyRootfs=False),
    "writable root by leaving out": without("HostConfig", "ReadonlyRootfs"),
    "too much memory": host(Memory=2147483649),
    "no memory limit": host(Memory=0),
    "negative memory": host(Memory=-1),
    "memory limit left out": without("HostConfig", "Memory"),
    "memory as a text": host(Memory="2147483648"),
    "memory as a fraction": host(Memory=1e9),
    "memory as a truth": host(Memory=True),
    "memory as null": host(Memory=None),
    "swap without limit": host(MemorySwap=-1),
    "twice the memory by leaving out swap": without("HostConfig", "MemorySwap"),
    "out of memory killer off": host(OomKillDisable=True),
    "out of memory score": host(OomScoreAdj=-1000),
    "too many processors": host(CpuQuota=200001),
    "no processor limit": host(CpuQuota=-1),
    "longer period": host(CpuPeriod=10000),
    "processor limit left out": without("HostConfig", "CpuQuota"),
    "processor limit of another kind beside": host(NanoCpus=64000000000),
    "more weight than a seat has": host(CpuShares=1024),
    "weight of a service, which is the engine's default": host(CpuShares=0),
    "weight left out": without("HostConfig", "CpuShares"),
    "real time": host(CpuRealtimeRuntime=950000),
    "processors": host(CpusetCpus="0-63"),
    "too many processes": host(PidsLimit=513),
    "no limit of processes": host(PidsLimit=0),
    "limit of processes left out": without("HostConfig", "PidsLimit"),
    "ulimits": host(Ulimits=[{"Name": "nofile", "Soft": 1048576, "Hard": 1048576}]),
    "shared memory": host(ShmSize=1 << 40),
    "restart": host(RestartPolicy={"Name": "always"}),
    "runtime": host(Runtime="runc-unconfined"),
    "storage": host(StorageOpt={"size": "1T"}),
    "groups": host(GroupAdd=["0"]),
    "annotations": host(Annotations={"a": "b"}),
    "file of the id": host(ContainerIDFile="/etc/passwd"),
    "isolation": host(Isolation="process"),
    "unknown field": host(NewIn2030=False),
    "log to a stranger": host(
        LogConfig={"Type": "syslog", "Config": {"syslog-address": "unixgram:///run/x"}}
    ),
    "log without limit": host(LogConfig={"Type": "json-file", "Config": {}}),
    "log with more": host(
        LogConfig={
            "Type": "json-file",
            "Config": {"max-size": "1m", "max-file": "2", "env": "JUPYTERHUB_API_TOKEN"},
        }
    ),
    "log limit left out": without("HostConfig", "LogConfig"),
    "no host config": without("HostConfig"),
    "host config as null": top(HostConfig=None),
    "host config as a list": top(HostConfig=[]),
    "root": top(User="0:0"),
    "another seat's user": top(User="2004:3004"),
    "group of another seat": top(User="2003:3004"),
    "user without group": top(User="2003"),
    "user of the image": without("User"),
    "another image": top(Image="wod/hub:0a1b"),
    "image by another name": top(Image="docker.io/wod/lab:0a1b"),
    "image by id": top(Image="sha256:" + "0" * 64),
    "entry point": top(Entrypoint=["/bin/sh"]),
    "command": top(Cmd=["/bin/sh"]),
    "health check": top(Healthcheck={"Test": ["CMD", "true"]}),
    "terminal": top(Tty=True),
    "standard input": top(OpenStdin=True),
    "build step": top(OnBuild=["RUN x"]),
    "shell": top(Shell=["/bin/sh"]),
    "stop signal": top(StopSignal="SIGSTOP"),
    "variable without a value": top(Env=["PATH"]),
    "variables that are no texts": top(Env=[1]),
    "label of another stack": top(Labels={"wod.project": "other", "wod.seat": "3"}),
    "label of another seat": top(Labels={"wod.project": "wod", "wod.seat": "4"}),
    "labels of compose": top(
        Labels={"wod.project": "wod", "wod.seat": "3", "com.docker.compose.project": "wod"}
    ),
    "label left out": top(Labels={"wod.project": "wod"}),
    "labels left out": without("Labels"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_server_gets_nothing_beyond_its_seat(attack: str) -> None:
    """A document that asks for anything else than a seat's server is refused."""
    with pytest.raises(Refused):
        create(changed(ATTACKS[attack]))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"{",
        b'{"Image": "wod/lab:0a1b"',
        b"\xff\xfe{}",
        b"\xef\xbb\xbf" + json.dumps(RECORDED).encode(),
        json.dumps(RECORDED).encode("utf-16"),
        json.dumps(RECORDED).encode() + b"{}",
        b'{"HostConfig": {"Privileged": true},' + json.dumps(RECORDED).encode()[1:],
        json.dumps(RECORDED).encode()[:-1] + b', "HostConfig": {"Privileged": true}}',
        json.dumps(RECORDED).replace('"Memory": 2147483648', '"Memory": 1, "Memory": 0').encode(),
        json.dumps(RECORDED).replace("2147483648", "NaN").encode(),
        json.dumps(RECORDED).replace("2147483648", "9" * 5000).encode(),
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_a_body_that_readers_could_understand_differently_is_refused(body: bytes) -> None:
    """A field twice, other encodings, numbers that are none, nesting without end: all stop here."""
    with pytest.raises(Refused):
        check("POST", CREATE, body)


def test_unknown_fields_that_are_null_do_not_reach_the_engine() -> None:
    """Clients may send null for what they do not set; it is left out."""
    document = changed(host(Privileged=None, Devices=None, privileged=None))
    document["Entrypoint"] = None
    assert create(document) == RECORDED


def test_what_the_engine_gets_is_plain_ascii() -> None:
    """A text with odd characters reaches the engine in the one form that all read alike."""
    document = changed(top(Env=["A=ü\u2028\ud800"]))
    forwarded = check("POST", CREATE, json.dumps(document).encode()).body
    assert forwarded.isascii()
    assert json.loads(forwarded) == document


def test_calls_without_a_document_have_no_body() -> None:
    """Old engines took a HostConfig at the start of a container: nothing is handed to them there."""
    with pytest.raises(Refused):
        check("POST", f"/containers/{SERVER}/start", b'{"Privileged": true}')


@pytest.mark.parametrize(
    "headers",
    [
        (("upgrade", "tcp"),),
        (("connection", "Upgrade"),),
        (("connection", "keep-alive, upgrade"),),
        (("content-length", "2"), ("transfer-encoding", "chunked")),
        (("content-encoding", "gzip"),),
    ],
)
def test_a_connection_stays_http(headers: tuple[tuple[str, str], ...]) -> None:
    """Neither upgraded connections nor bodies with two lengths pass."""
    with pytest.raises(Refused):
        check("GET", "/_ping", b"", headers)


@pytest.mark.parametrize(
    "inspected",
    [
        {},
        {"Name": "/wod-student3", "Config": {"Labels": None}},
        {"Name": "/wod-student3", "Config": {"Labels": {"wod.project": "other", "wod.seat": "3"}}},
        {"Name": "/wod-student3", "Config": {"Labels": {"wod.project": "wod", "wod.seat": "4"}}},
        {"Name": "/wod-student3", "Config": {"Labels": {"wod.project": "wod"}}},
        {"Name": "/wod-hub-1", "Config": {"Labels": {"wod.project": "wod", "wod.seat": "3"}}},
        {"Name": "/other-student3", "Config": {"Labels": {"wod.project": "wod", "wod.seat": "3"}}},
    ],
)
def test_a_container_that_is_no_server_of_ours_is_out_of_reach(inspected: dict[str, Any]) -> None:
    """Name and labels must both say that it is a seat's server of this project."""
    with pytest.raises(Refused):
        POLICY.check_container(inspected, "seat")


def test_the_server_of_a_seat_that_the_site_gave_up_can_be_removed() -> None:
    """With fewer seats than before, a server beyond the last one is still one of ours, but none is created."""
    POLICY.check_container(
        {"Name": "/wod-student61", "Config": {"Labels": {"wod.project": "wod", "wod.seat": "61"}}}, "seat"
    )
    with pytest.raises(Refused, match="from 1 to 60"):
        create(RECORDED, "/containers/create?name=wod-student61")


# What the worker sends for a script of seat 3.
SCRIPT: dict[str, Any] = {
    "Image": "wod/lab:0a1b",
    "Hostname": "script3",
    "User": "2003:3003",
    "WorkingDir": "/srv/wod/notebooks",
    "Entrypoint": ["tini", "-g", "--", "wod-script"],
    "Cmd": ["/srv/wod/private/scripts/create-WKSHP-X.sh"],
    "Env": ["stdid=3"],
    "Labels": {"wod.project": "wod", "wod.script": "3"},
    "Healthcheck": {"Test": ["NONE"]},
    "HostConfig": {
        "NetworkMode": "none",
        "Mounts": [
            {
                "Type": "bind",
                "Source": "/var/lib/wod/data/scripts/student3/site",
                "Target": "/srv/wod",
                "ReadOnly": True,
            },
            {
                "Type": "bind",
                "Source": "/var/lib/wod/data/scripts/student3/made",
                "Target": "/srv/wod/private/ansible/production/pass",
                "ReadOnly": False,
            },
            {
                "Type": "bind",
                "Source": "/var/lib/wod/data/students/.staging/student3-0123456789abcdef",
                "Target": "/student/student3",
                "ReadOnly": False,
            },
        ],
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "CgroupnsMode": "private",
        "ReadonlyRootfs": True,
        "Tmpfs": {
            "/tmp": "exec,nosuid,nodev,mode=1777,size=64m",
            "/run": "nosuid,nodev,mode=0755,size=1m,uid=2003,gid=3003",
            "/var/lib/extrausers": "nosuid,nodev,mode=0755,size=64k,uid=2003,gid=3003",
        },
        "Memory": 2147483648,
        "MemorySwap": 2147483648,
        "CpuPeriod": 100000,
        "CpuQuota": 200000,
        "CpuShares": 16,
        "PidsLimit": 512,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
    },
}


def script(
    change: Callable[[dict[str, Any]], object] = lambda _: None, client: str = "worker"
) -> dict[str, Any]:
    """The document that the engine gets for a script with this change."""
    document = copy.deepcopy(SCRIPT)
    change(document)
    body = json.dumps(document).encode()
    return json.loads(POLICY.check(client, "POST", "/containers/create?name=wod-script3", (), body).body)


def only_mount(source: str, target: str, *, read_only: bool) -> Callable[[dict[str, Any]], object]:
    """Change the script's mounts to this one."""
    return host(Mounts=[{"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}])


def test_a_script_of_a_seat_passes() -> None:
    """The worker can run a script, or the compiler, for a seat: with the network of the seats or with none."""
    assert script() == SCRIPT
    assert script(top(Image="wod/compiler:2c3d"))["Image"] == "wod/compiler:2c3d"
    assert script(host(NetworkMode="wod_seats"))["HostConfig"]["NetworkMode"] == "wod_seats"
    assert script(host(Mounts=[]))["HostConfig"]["Mounts"] == []


DATA = "/var/lib/wod/data"


@pytest.mark.parametrize(
    "change",
    [
        top(Image="wod/worker:4e5f"),
        top(Image="wod/lab:0a1b|wod/compiler:2c3d"),
        top(User="0:0"),
        top(User="1804:1804"),
        top(Entrypoint=["/bin/sh"]),
        top(Hostname="student3"),
        top(Labels={"wod.project": "wod", "wod.seat": "3"}),
        host(NetworkMode="wod_control"),
        host(NetworkMode="host"),
        host(Privileged=True),
        host(CapAdd=["CHOWN"]),
        host(ReadonlyRootfs=False),
        host(PidsLimit=0),
        host(Memory=1 << 40),
        host(AutoRemove=True),
        only_mount(f"{DATA}/students/student4", "/student/student3", read_only=False),
        only_mount(
            f"{DATA}/students/.staging/student4-0123456789abcdef", "/student/student3", read_only=False
        ),
        only_mount(f"{DATA}/students/.trash", "/student/student3", read_only=False),
        only_mount(f"{DATA}/students", "/student", read_only=False),
        only_mount(f"{DATA}/students/student3", "/etc", read_only=False),
        only_mount(f"{DATA}/db", "/srv/wod", read_only=True),
        only_mount(f"{DATA}/scripts/student4/site", "/srv/wod", read_only=True),
        only_mount(f"{DATA}/scripts/student3/site", "/srv/wod", read_only=False),
        only_mount("/var/lib/wod/run/gate/worker", "/srv/wod/made", read_only=False),
        only_mount("/var/run/docker.sock", "/srv/wod/made", read_only=False),
        only_mount("/", "/srv/wod", read_only=True),
    ],
)
def test_a_script_gets_nothing_beyond_its_seat(change: Callable[[dict[str, Any]], object]) -> None:
    """No other home, no socket, no service's data or network, no right, no image but lab and compiler."""
    with pytest.raises(Refused):
        script(change)


@pytest.mark.parametrize(
    ("client", "method", "target"),
    [
        ("worker", "POST", "/containers/wod-student3/start"),
        ("worker", "GET", "/containers/wod-student3/logs?stdout=True"),
        ("worker", "GET", "/containers/wod-student3/stats?stream=true&one-shot=true"),
        ("worker", "GET", "/containers/wod-student3/top?ps_args=-eopid,environ"),
        ("hub", "GET", "/containers/wod-export3/logs?stdout=True"),
        ("hub", "GET", "/containers/wod-student3/top?ps_args=-eopid,ppid,etimes,cputimes,stat,args"),
        ("hub", "DELETE", "/containers/wod-script3?force=True"),
        ("hub", "GET", "/containers/wod-script3/logs?stdout=True"),
        ("worker", "POST", f"/containers/{SERVER}/exec"),
        ("worker", "GET", "/containers/json"),
    ],
)
def test_each_client_has_its_own_kind_of_containers(client: str, method: str, target: str) -> None:
    """The worker drives scripts and exports and looks at seats' servers, which the hub alone drives."""
    with pytest.raises(Refused):
        POLICY.check(client, method, target, (), b"")
    with pytest.raises(Refused):
        script(client="hub")


EXPORT: dict[str, Any] = {
    "Image": "wod/export:4e5f",
    "Hostname": "export3",
    "User": "2003:3003",
    "WorkingDir": "/student/student3",
    "Cmd": ["WKSHP-Welcome101"],
    "Labels": {"wod.project": "wod", "wod.export": "3"},
    "HostConfig": {
        "NetworkMode": "none",
        "Mounts": [
            {
                "Type": "bind",
                "Source": "/var/lib/wod/data/students/student3",
                "Target": "/student/student3",
                "ReadOnly": False,
            }
        ],
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "CgroupnsMode": "private",
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": "nosuid,nodev,noexec,mode=1777,size=1g"},
        "Memory": 1536 * 2**20,
        "MemorySwap": 1536 * 2**20,
        "CpuPeriod": 100_000,
        "CpuQuota": 100_000,
        "CpuShares": 16,
        "PidsLimit": 64,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
    },
}


def export(change: Callable[[dict[str, Any]], object] = lambda _: None, name: str = "wod-export3") -> Any:
    """The document that the engine gets for an export with this change."""
    document = copy.deepcopy(EXPORT)
    change(document)
    target = f"/containers/create?name={name}"
    return json.loads(POLICY.check("worker", "POST", target, (), json.dumps(document).encode()).body)


def test_an_export_of_a_seat_passes() -> None:
    """Documents are made in a container of their own, with the seat's home."""
    assert export() == EXPORT


@pytest.mark.parametrize(
    "change",
    [
        top(Image="wod/lab:1a2b"),
        top(User="0:0"),
        top(Cmd=["--help"]),
        top(Cmd=["WKSHP-../../etc"]),
        top(Entrypoint=["sh"]),
        host(NetworkMode="wod_seats"),
        host(NetworkMode="host"),
        host(Mounts=[]),
        host(Mounts=[{"Type": "bind", "Source": "/", "Target": "/student/student3", "ReadOnly": False}]),
        host(Privileged=True),
        host(Memory=2**40),
    ],
)
def test_an_export_gets_nothing_beyond_its_seat(change: Callable[[dict[str, Any]], object]) -> None:
    """No other image, user, program or home, and no network."""
    with pytest.raises(Refused):
        export(change)


def test_a_document_is_that_of_the_containers_kind() -> None:
    """An export under the name of a script is none."""
    with pytest.raises(Refused):
        export(name="wod-script3")
    with pytest.raises(Refused):
        export(name="wod-export4")


def test_an_id_is_looked_at_before_it_is_taken_for_one_of_a_kind() -> None:
    """What the worker calls a script by its id has to be one."""
    call = POLICY.check("worker", "DELETE", f"/containers/{SERVER}?force=True", (), b"")
    assert (call.kind, call.container) == ("script", SERVER)
    with pytest.raises(Refused):
        POLICY.check_container(
            {"Name": "/wod-student3", "Config": {"Labels": {"wod.project": "wod", "wod.seat": "3"}}}, "script"
        )


def test_a_refusal_says_why_but_not_what_was_sent() -> None:
    """A reason names the field and what was expected, and tells no secret."""
    with pytest.raises(Refused) as refusal:
        create(changed(top(Env=["JUPYTERHUB_API_TOKEN=0123", "SECRET"])))
    assert "Env" in str(refusal.value)
    assert "SECRET" not in str(refusal.value)
    with pytest.raises(Refused, match=r"HostConfig\.Memory must be from 1 to 2147483648"):
        create(changed(host(Memory=0)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "clients: {hub: {uid: 1801}}",
        TEXT.replace("{project}", "{projekt}"),
        TEXT.replace("/{seat}/", "/{saet}/"),
        TEXT.replace("name: seat", "name: saet"),
        TEXT.replace("POST /", "POST "),
        TEXT.replace("!at-most", "!at-least"),
    ],
)
def test_a_policy_with_a_mistake_stops_the_gate(text: str) -> None:
    """A policy that cannot mean what its author meant is not used."""
    with pytest.raises(PolicyProblem):
        Policy(text, Site.gather(ENVIRON, SETTINGS))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WOD_PROJECT", ""),
        ("WOD_PROJECT", "../x"),
        ("WOD_STATE", "relative"),
        ("WOD_STATE", "/"),
        ("WOD_STATE", "/var/lib/wod/"),
        ("WOD_LABS", ""),
        ("WOD_LABS", "lab=wod/lab:x y"),
        ("WODSEATMEMORY", "much"),
    ],
)
def test_odd_values_of_the_site_stop_the_gate(name: str, value: str) -> None:
    """A gate that does not know its site lets nothing through."""
    with pytest.raises(PolicyProblem):
        Site.gather(ENVIRON | {name: value}, SETTINGS | {name: value})


def test_the_gate_needs_all_values_of_the_site() -> None:
    """A missing value is named."""
    with pytest.raises(PolicyProblem, match="WOD_STATE"):
        Site.gather({"WOD_PROJECT": "wod"}, SETTINGS)
