"""Somebody has the hub: its token, and code in its container. He gets nothing of the host, and no other container."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import docker
from tests.journey.portal import send, wait_for_action

# Runs in the hub's container as the hub: asks the gate's socket, or the hub's own API with the token of the secrets.
# On standard input a list of [way, method, path, document]; on standard output the answers, [status, body].
TAKEN = """
import http.client, json, socket, sys
answers = []
for way, method, path, document in json.load(sys.stdin):
    headers = {"Content-Type": "application/json"}
    if way == "gate":
        connection = http.client.HTTPConnection("gate", timeout=60)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect("/run/gate/docker.sock")
    else:
        connection = http.client.HTTPConnection("127.0.0.1", 8081, timeout=60)
        headers["Authorization"] = "token " + open("/run/secrets/admin-token").read().strip()
    body = None if document is None else json.dumps(document)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answers.append([answer.status, answer.read().decode("utf-8", "replace")[:2000]])
    except OSError as problem:
        answers.append([0, str(problem)])
print(json.dumps(answers))
"""


def in_the_hub(stack, calls: list[list]) -> list[tuple[int, str]]:
    said = docker_with_input(
        "exec", "--interactive", stack.container("hub"), "python3", "-c", TAKEN, text=json.dumps(calls)
    )
    return [(status, body) for status, body in json.loads(said)]


def docker_with_input(*words: str, text: str) -> str:
    done = subprocess.run(
        ["docker", *words], input=text, capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


def inspected(name: str) -> dict:
    found: dict = json.loads(docker("inspect", name))[0]
    return found


@pytest.fixture
def lent(stack) -> Iterator[str]:
    """The container of a seat that somebody works in."""
    send(stack, "CREATE 31 3131", "WKSHP-Welcome101")
    assert wait_for_action(stack, 3131, "CREATE")["state"] == "done"
    yield f"{stack.project}-student31"
    stack.wodctl("student", "wipe", "31-32", "--yes")


def seat_document(container: str, number: int) -> dict:
    """What the hub itself asks for, of seat `number`: the form of a real one, so that what is refused is the wish."""
    real = inspected(container)
    text = json.dumps(real["HostConfig"]["Mounts"])
    config, host = real["Config"], real["HostConfig"]
    [network] = real["NetworkSettings"]["Networks"]
    address = real["NetworkSettings"]["Networks"][network]["IPAddress"]
    mine = address.rsplit(".", 1)
    there = f"{mine[0]}.{int(mine[1]) + number - 31}"
    return {
        "Image": config["Image"], "Hostname": f"student{number}", "User": f"{2000 + number}:{2000 + number}",
        "WorkingDir": f"/student/student{number}", "Env": ["A=b"],
        "Labels": config["Labels"] and {"wod.project": config["Labels"]["wod.project"], "wod.seat": str(number)},
        "NetworkingConfig": {"EndpointsConfig": {network: {"IPAMConfig": {"IPv4Address": there}}}},
        "HostConfig": {
            "NetworkMode": network, "Mounts": json.loads(text.replace("student31", f"student{number}")),
            "CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges:true"], "CgroupnsMode": "private",
            "ReadonlyRootfs": True, "Tmpfs": {}, "Memory": host["Memory"], "MemorySwap": host["MemorySwap"],
            "CpuPeriod": host["CpuPeriod"], "CpuQuota": host["CpuQuota"], "CpuShares": host["CpuShares"],
            "PidsLimit": host["PidsLimit"], "LogConfig": host["LogConfig"],
        },
    }  # fmt: skip


def test_whoever_has_the_hub_has_neither_host_nor_other_containers(stack, lent) -> None:
    """No privileged container, no mount of the host, no other's home, no container that is not a seat's server; and the
    gate has written down who asked for what."""
    state, project = stack.state, stack.project
    (state / "data/students/student32").mkdir(exist_ok=True)
    create = f"/v1.45/containers/create?name={project}-student32"
    good = seat_document(lent, 32)

    def with_host(**changes) -> list:
        return ["gate", "POST", create, good | {"HostConfig": good["HostConfig"] | changes}]

    def mount(source: str) -> list[dict]:
        return [{"Type": "bind", "Source": source, "Target": "/student/student32"}]

    attempts = {
        "privileged": with_host(Privileged=True),
        "the host's root": with_host(Binds=["/:/host"]),
        "the host's root as the home": with_host(Mounts=mount("/")),
        "another's home": with_host(Mounts=mount(f"{state}/data/students/student31")),
        "all homes": with_host(Mounts=mount(f"{state}/data/students")),
        "out of the own home": with_host(Mounts=mount(f"{state}/data/students/student32/../student31")),
        "the secrets": with_host(Mounts=mount(f"{state}/secrets")),
        "the engine's socket": with_host(Mounts=mount("/var/run/docker.sock")),
        "processes of the host": with_host(PidMode="host"),
        "volumes of another": with_host(VolumesFrom=[stack.container("db")]),
        "a capability": with_host(CapAdd=["SYS_ADMIN"]),
        "root": ["gate", "POST", create, good | {"User": "0:0"}],
        "another's user": ["gate", "POST", create, good | {"User": "2031:2031"}],
        "a program of his own": ["gate", "POST", create, good | {"Cmd": ["sh", "-c", "id"]}],
        "another image": [
            "gate",
            "POST",
            create,
            good | {"Image": inspected(stack.container("db"))["Image"]},
        ],
        "another name": ["gate", "POST", "/v1.45/containers/create?name=free", good],
        "all containers": ["gate", "GET", "/v1.45/containers/json", None],
        "a look at the worker": ["gate", "GET", f"/v1.45/containers/{stack.container('worker')}/json", None],
        "the database stopped": ["gate", "POST", f"/v1.45/containers/{stack.container('db')}/stop", None],
        "the gate removed": [
            "gate",
            "DELETE",
            f"/v1.45/containers/{stack.container('gate')}?force=True",
            None,
        ],
        "a shell in a seat": ["gate", "POST", f"/v1.45/containers/{lent}/exec", {"Cmd": ["id"]}],
        "files of a seat": ["gate", "GET", f"/v1.45/containers/{lent}/archive?path=/student", None],
        "a seat's file system": ["gate", "GET", f"/v1.45/containers/{lent}/export", None],
        "an image": ["gate", "POST", "/v1.45/build", None],
        "a volume": ["gate", "POST", "/v1.45/volumes/create", {"Name": "x"}],
        "a network": ["gate", "POST", f"/v1.45/networks/{project}_control/connect", {"Container": lent}],
    }
    answers = in_the_hub(stack, list(attempts.values()))
    got = [name for name, (status, _) in zip(attempts, answers, strict=True) if status != 403]
    assert not got, [(name, answer) for name, answer in zip(attempts, answers, strict=True) if name in got]
    assert not docker("ps", "--all", "--quiet", "--filter", f"name={project}-student32").strip()
    assert inspected(stack.container("db"))["State"]["Running"]

    # The same document without a wish is what the hub may ask for: it was no mistake in the form that was refused.
    [(status, body)] = in_the_hub(stack, [["gate", "POST", create, good]])
    assert status == 201, body
    assert (
        in_the_hub(stack, [["gate", "DELETE", f"/v1.45/containers/{project}-student32?force=True", None]])[0][
            0
        ]
        == 204
    )

    # The gate's log: who and what, a line each.
    lines = [json.loads(line) for line in log_of(stack.container("gate")) if '"refused"' in line]
    refused = [line for line in lines if line["client"] == "hub"]
    assert len(refused) >= len(attempts)
    assert {"time", "method", "path", "reason"} <= set(refused[-1])
    assert any("Privileged must be false" in line["reason"] for line in refused)

    # Nor are there other ways: no engine's socket, no homes, no secrets of others, no rights.
    for path in ("/var/run/docker.sock", "/student", str(state), "/run/gate/../worker"):
        assert docker("exec", stack.container("hub"), "sh", "-c", f"ls {path} 2>/dev/null || true") == "", (
            path
        )
    assert "CapEff:\t0000000000000000" in docker("exec", stack.container("hub"), "cat", "/proc/1/status")


def test_the_hubs_token_makes_no_server_of_another_form(stack, lent) -> None:
    """Whatever is asked for in its name, the hub starts the server that every participant has."""
    wishes = {"Image": "x", "privileged": True, "mounts": [{"source": "/", "target": "/h"}],
              "cmd": ["sh"], "extra_host_config": {"privileged": True}, "user": "0"}  # fmt: skip
    before = inspected(lent)
    answers = in_the_hub(
        stack,
        [
            ["hub", "DELETE", "/hub/api/users/student31/server", None],
            ["hub", "POST", "/hub/api/users/student31/server", {"image": "wod/db:latest"}],
            ["hub", "POST", "/hub/api/users/root", {}],
            ["hub", "POST", "/hub/api/users/student31/servers/second", {}],
            ["hub", "POST", "/hub/api/users/student31/server", wishes],
        ],
    )
    assert [status for status, _ in answers] == [204, 400, 400, 400, 201], answers
    after = inspected(lent)
    for part in ("Image", "User", "Cmd", "Entrypoint"):
        assert after["Config"][part] == before["Config"][part]
    for part in (
        "Privileged",
        "Mounts",
        "Binds",
        "CapAdd",
        "CapDrop",
        "SecurityOpt",
        "PidMode",
        "NetworkMode",
    ):
        assert after["HostConfig"][part] == before["HostConfig"][part]


def log_of(container: str) -> list[str]:
    done = subprocess.run(["docker", "logs", container], capture_output=True, text=True, check=True)
    return (done.stdout + done.stderr).splitlines()
