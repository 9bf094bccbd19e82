"""The participant's server: light, closed, with working kernels and tools, whatever is in the home."""

import json
import os
import shutil
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.conftest import ROOT, docker
from wodctl.adapters import configuration
from wodctl.adapters.builder import Builder

UID = 2003
PREFIX = "/user/student3/"
SCOPES = ["access:servers!server=student3/", "access:servers!user=student3"]
# Users of the stand-in for the hub: their token, and what it gives access to.
USERS = {"of-student3": "access:servers!server=student3/", "of-student4": "access:servers!server=student4/"}

# Runs cells in a kernel, inside of the container; prints for each its status and output.
CELLS = """
import sys
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(kernel_name=sys.argv[1], startup_timeout=60)
def show(message):
    content = message["content"]
    text = content.get("text") or content.get("evalue") or content.get("data", {}).get("text/plain")
    print(text or "", end="")
for cell in sys.argv[2:]:
    print("status", client.execute_interactive(cell, timeout=60, output_hook=show)["content"]["status"])
client.stop_channels()
manager.shutdown_kernel()
"""

# An SSH server that lets everybody in.
SSH_SERVER = """
import socket, subprocess, threading, paramiko
class Server(paramiko.ServerInterface):
    def check_auth_publickey(self, username, key):
        return paramiko.AUTH_SUCCESSFUL
    def check_channel_request(self, kind, number):
        return paramiko.OPEN_SUCCEEDED
    def check_channel_shell_request(self, channel):
        pipe = subprocess.PIPE
        shell = subprocess.Popen(["sh"], stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
        def pump(read, write):
            while piece := read(4096):
                write(piece)
        for ends in (
            (channel.recv, shell.stdin.write),
            (shell.stdout.read, channel.sendall),
            (shell.stderr.read, channel.sendall_stderr),
        ):
            threading.Thread(target=pump, args=ends, daemon=True).start()
        return True
listener = socket.create_server(("127.0.0.1", 2222))
while True:
    transport = paramiko.Transport(listener.accept()[0])
    transport.add_server_key(paramiko.ECDSAKey.generate())
    transport.start_server(event=threading.Event(), server=Server())
"""

# What a start of the server must not import; it spends more time on these than on all the rest.
HEAVY = ["IPython", "aiohttp.client", "httpx", "jupyter_lsp", "lark", "requests.api", "sqlalchemy.orm"]

PATHS = """
lab api/status api/me api/contents api/kernels api/kernelspecs api/sessions api/terminals api/nbconvert
api/config/notebook lab/api/settings lab/api/workspaces lab/api/extensions lab/api/translations
lab/api/translations/en lab/api/licenses lab/api/plugins lab/api/build metrics
kernelspecs/python3/logo-svg.svg
"""

TOOLS = """
ansible ansible-playbook ansible-vault bunzip2 curl dig file git http ip jinja2 jq ldapsearch less make man
nano nc netstat ping pip ps pstree python3 rsync sponge ssh ssh-keygen telnet tree unzip vim wget xz zip
"""

CONFIGURATION = (
    "for f in jupyter_config jupyter_server_config; do echo 'raise SystemExit(3)' > .jupyter/$f.py; done"
)
SITE = ".local/lib/python3.13/site-packages"


class Hub(BaseHTTPRequestHandler):
    """As much of JupyterHub's API as a single-user server asks for."""

    def do_GET(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("token ")
        if self.path.rstrip("/") == "/hub/api":
            self.answer(200, {"version": "6.1.1"})
        elif self.path == "/hub/seat-token":
            self.say(200, b"of-student3")
        elif token in USERS:
            self.answer(200, {"kind": "user", "name": token.removeprefix("of-"), "scopes": [USERS[token]]})
        else:
            self.answer(403, {"status": 403, "message": "No such token"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(200, {})

    def answer(self, status: int, body: dict[str, object]) -> None:
        self.say(status, json.dumps(body).encode())

    def say(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("X-JupyterHub-Version", "6.1.1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass(frozen=True)
class Seat:
    """A server as the hub starts it, on the engine's own network."""

    name: str
    home: Path

    @property
    def address(self) -> str:
        return docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", self.name).strip()

    def ask(
        self, path: str, method: str = "GET", body: object = None, user: str = "student3"
    ) -> tuple[int, str]:
        """Status and body of an answer of the server."""
        connection = HTTPConnection(self.address, 8888, timeout=30)
        connection.request(
            method,
            PREFIX + path,
            "" if body is None else json.dumps(body),
            {"Authorization": f"token of-{user}"} if user else {},
        )
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def run(self, *words: str, stdin: str = "") -> str:
        """What a command prints in the container, as the participant."""
        done = subprocess.run(
            ["docker", "exec", "--interactive", "--workdir=/student/student3", self.name, *words],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=180,
            check=False,
        )
        return done.stdout

    def cells(self, kernel: str, *cells: str) -> str:
        return self.run("python", "-", kernel, *cells, stdin=CELLS)

    def wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                if self.ask("api")[0] == 200:
                    return
            except OSError:
                running = docker("inspect", "--format", "{{.State.Running}}", self.name).strip()
                assert running == "true" and time.monotonic() < deadline, self.log()
            time.sleep(0.1)

    def log(self) -> str:
        done = subprocess.run(["docker", "logs", self.name], capture_output=True, text=True, check=True)
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def image() -> str:
    state = Path("/var/lib/wod-tests")
    builder = Builder(ROOT, state, configuration.load(ROOT, state, {}, {})[0])
    if "lab" in builder.missing():
        builder.build(["lab"])
    return builder.tag("lab")


@pytest.fixture(scope="module")
def start(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Seat]]:
    """A function that starts a server on a home which a shell script has prepared."""
    gateway = docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", "bridge").strip()
    hub = ThreadingHTTPServer((gateway, 0), Hub)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    api = f"http://{gateway}:{hub.server_address[1]}/hub/api"
    environment = {
        "HOME": "/student/student3",
        "JUPYTERHUB_ACTIVITY_URL": f"{api}/users/student3/activity",
        "JUPYTERHUB_API_URL": api,
        "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-student3",
        "JUPYTERHUB_DEFAULT_URL": "/lab",
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES": json.dumps(SCOPES),
        "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{PREFIX}oauth_callback",
        "JUPYTERHUB_OAUTH_SCOPES": json.dumps(SCOPES),
        "JUPYTERHUB_SERVICE_PREFIX": PREFIX,
        "JUPYTERHUB_SERVICE_URL": f"http://0.0.0.0:8888{PREFIX}",
        "JUPYTERHUB_USER": "student3",
    }
    started: list[Seat] = []

    def run(preparation: str) -> Seat:
        home = tmp_path_factory.mktemp("home")
        subprocess.run(["sh", "-ec", preparation], cwd=home, check=True)
        subprocess.run(["chown", "-R", f"{UID}:{UID}", str(home)], check=True)
        name = f"wodtestlab-{os.getpid()}-{len(started)}"
        docker(
            *["run", "--detach", f"--name={name}", "--hostname=student3", f"--user={UID}:{UID}"],
            *["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"],
            *["--memory=1g", "--pids-limit=512"],
            *["--tmpfs=/tmp:exec", "--tmpfs=/run", "--tmpfs=/var/lib/extrausers"],
            *[f"--env={key}={value}" for key, value in environment.items()],
            *[f"--volume={home}:/student/student3", image],
        )
        seat = Seat(name, home)
        started.append(seat)
        seat.wait_until_it_answers()
        return seat

    yield run
    hub.shutdown()
    docker("rm", "--force", *[seat.name for seat in started])
    for seat in started:
        shutil.rmtree(seat.home)


@pytest.fixture(scope="module")
def seat(start: Callable[[str], Seat]) -> Seat:
    return start("true")


def test_an_idle_seat_is_small(start: Callable[[str], Seat]):
    """A server that has just started holds less than 75 MiB."""
    quiet = start("true")
    time.sleep(2)
    used = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", quiet.name).split(" / ")[0]
    assert used.endswith("MiB") and float(used.removesuffix("MiB")) < 75, used


def test_the_start_imports_nothing_heavy(seat: Seat):
    """What wod_lab leaves out is still what JupyterHub and JupyterLab would load, and it stays out."""
    program = (
        "import sys, wod_lab; wod_lab.leave_out_the_hub(); wod_lab.leave_out_the_unused();"
        "import jupyterhub.singleuser.extension, jupyterlab.labapp;"
        "print([name for name in sys.argv[1:] if name in sys.modules])"
    )
    assert seat.run("/opt/wod/bin/python", "-I", "-c", program, *HEAVY).strip() == "[]"


@pytest.mark.parametrize("path", PATHS.split())
def test_what_jupyterlab_asks_for_is_answered(seat: Seat, path: str):
    """Every endpoint that JupyterLab uses works in spite of what is left out."""
    assert seat.ask(path)[0] == 200


def test_only_its_participant_gets_in(seat: Seat):
    """Another participant's token, a wrong one and none at all are refused."""
    assert seat.ask("api/contents")[0] == 200
    for user in ("student4", "nobody", ""):
        assert seat.ask("api/contents", user=user)[0] == 403


def test_a_notebook_is_saved_and_exported(seat: Seat):
    """A notebook can be written, read, checkpointed and downloaded as HTML."""
    cell = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# Hello from the seat"}
    notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    assert seat.ask("api/contents/a.ipynb", "PUT", {"type": "notebook", "content": notebook})[0] == 201
    assert seat.ask("api/contents/a.ipynb/checkpoints", "POST")[0] == 201
    assert "Hello from the seat" in seat.ask("api/contents/a.ipynb")[1]
    status, page = seat.ask("nbconvert/html/a.ipynb")
    assert status == 200 and "<h1" in page and "Hello from the seat" in page
    assert (seat.home / "a.ipynb").stat().st_mode & 0o007 == 0


def test_settings_and_workspaces_are_kept(seat: Seat):
    """JupyterLab can store a setting and a workspace, and finds them again."""
    theme = "lab/api/settings/@jupyterlab/apputils-extension:themes"
    assert seat.ask(theme, "PUT", {"raw": '{"theme": "JupyterLab Dark"}'})[0] == 204
    assert json.loads(seat.ask(theme)[1])["settings"]["theme"] == "JupyterLab Dark"
    workspace = {"data": {"a": 1}, "metadata": {"id": "default"}}
    assert seat.ask("lab/api/workspaces/default", "PUT", workspace)[0] == 204
    assert json.loads(seat.ask("lab/api/workspaces/default")[1])["data"] == {"a": 1}
    assert (seat.home / ".jupyter/lab/workspaces/default-37a8.jupyterlab-workspace").exists()


def test_nothing_asks_for_news_or_updates(seat: Seat):
    """Neither the news nor the update check of JupyterLab is on, and it does not ask about them."""
    page = json.loads(seat.ask("lab")[1].split('type="application/json">')[1].split("</script>")[0])
    assert "@jupyterlab/apputils-extension:announcements" in page["disabledExtensions"]
    assert not page["buildCheck"] and not page["extensionManager"]["can_install"]
    notification = json.loads(seat.ask("lab/api/settings/@jupyterlab/apputils-extension:notification")[1])
    assert '"false"' in json.dumps(notification["schema"]["properties"]["fetchNews"]["default"])


def test_a_terminal_is_a_login_shell_of_the_participant(seat: Seat):
    """A terminal runs a login shell that knows who it is, with the kernels' tools on its PATH."""
    name = json.loads(seat.ask("api/terminals", "POST")[1])["name"]
    headers = {"Authorization": "token of-student3"}
    seen = ""
    with connect(
        f"ws://{seat.address}:8888{PREFIX}terminals/websocket/{name}", additional_headers=headers
    ) as terminal:
        question = 'shopt -q login_shell && echo "<$(id -un) $(umask) $EDITOR $(type -p ansible)>"\r'
        terminal.send(json.dumps(["stdin", question]))
        while "<student3 0027 vim /opt/kernels/bin/ansible>" not in seen:
            seen += str(json.loads(terminal.recv(timeout=20))[1])


def test_the_python_kernel_runs_cells(seat: Seat):
    """The kernel python3 runs a cell as the participant and has the libraries that workshops use."""
    answer = seat.cells(
        "python3", "import getpass; print(getpass.getuser(), 6 * 7)", "import ipywidgets, jwt, requests, yaml"
    )
    assert "student3 42" in answer and answer.count("status ok") == 2


def test_what_pip_installs_can_be_imported_at_once(seat: Seat):
    """`%pip install` in a notebook installs into the home, and the running kernel finds it."""
    wheel = seat.home / "seatsample-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("seatsample.py", "answer = 6 * 7\n")
        about = "seatsample-1.0.dist-info"
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: seatsample\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    install = f"%pip install --no-index ./{wheel.name}"
    answer = seat.cells("python3", install, "import seatsample; print(seatsample.answer)")
    assert "42" in answer and answer.count("status ok") == 2, answer
    assert list(seat.home.glob(".local/lib/python3*/site-packages/seatsample.py"))


def test_the_bash_kernel_runs_cells(seat: Seat):
    """The kernel bash runs a cell, and tells when one fails."""
    answer = seat.cells("bash", "echo $((6 * 7))", "exit_with_an_error")
    assert "42\nstatus ok" in answer and "status error" in answer


def test_the_ansible_kernel_runs_cells(seat: Seat):
    """The kernel ansible runs tasks and plays, and keeps what a task registers."""
    play = "#play\nname: another\nhosts: localhost\ngather_facts: false"
    task = "shell: id -un\nregister: who"
    answer = seat.cells("ansible", task, "debug: var=who.stdout", play, "debug: msg=again")
    assert '"who.stdout": "student3"' in answer and '"msg": "again"' in answer, answer
    assert "DEPRECATION" not in answer and answer.count("status ok") == 4


def test_the_ssh_kernel_logs_in(seat: Seat):
    """The kernel ssh takes a host and a key of ~/.ssh/config, and logs in there."""
    config = "Host box\n Hostname 127.0.0.1\n Port 2222\n User someone\n IdentityFile ~/.ssh/id_ed25519\n"
    seat.run("sh", "-c", "mkdir -p -m 700 ~/.ssh && cat > ~/.ssh/config", stdin=config)
    seat.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/student/student3/.ssh/id_ed25519")
    (seat.home / "server.py").write_text(SSH_SERVER)
    docker("exec", "--detach", seat.name, "python", "/student/student3/server.py")
    seat.run("sh", "-c", "until nc -z 127.0.0.1 2222; do sleep 0.1; done")
    answer = seat.cells("ssh", "%login box")
    assert "Successfully logged in" in answer and "status ok" in answer, answer


@pytest.mark.parametrize("tool", TOOLS.split())
def test_a_terminal_has_the_tools_of_the_workshops(seat: Seat, tool: str):
    """The tools that workshops ask for are on the PATH of a login shell."""
    assert seat.run("bash", "-lc", f"type -p {tool}").startswith("/")


def test_ansible_has_its_usual_collections(seat: Seat):
    """Ansible knows ansible.posix and community.general."""
    collections = seat.run("ansible-galaxy", "collection", "list")
    assert "ansible.posix" in collections and "community.general" in collections


@pytest.mark.parametrize(
    "preparation",
    [
        "touch .jupyter",
        "touch .local",
        "mkdir .jupyter .local .ipython .cache && chmod 0 .jupyter .local .ipython .cache",
        f"mkdir .jupyter && {CONFIGURATION}",
        "mkdir -p .local/etc/jupyter && echo '{' > .local/etc/jupyter/jupyter_server_config.json",
        f"mkdir -p {SITE} && echo 'import os; os._exit(9)' > {SITE}/usercustomize.py",
        f"mkdir -p {SITE} && echo 'import os; os._exit(9)' > {SITE}/tornado.py",
        "for f in json tornado wod_lab; do echo 'raise SystemExit(3)' > $f.py; done",
        "d=.jupyter/lab/workspaces && mkdir -p $d && echo '{' > $d/default-37a8.jupyterlab-workspace",
        "d=.local/share/jupyter/kernels/python3 && mkdir -p $d && echo '{' > $d/kernel.json",
        "mkdir -p .local/share/jupyter/nbsignatures.db .local/share/jupyter/notebook_secret",
    ],
)
def test_no_home_keeps_its_server_from_starting(start: Callable[[str], Seat], preparation: str):
    """Whatever a participant has put into his home, his server starts and shows JupyterLab."""
    assert start(preparation).ask("lab")[0] == 200


def test_a_participant_cannot_change_his_server(start: Callable[[str], Seat]):
    """What he writes, his server neither reads nor runs; and of all that it is made of he can write nothing."""
    mark = "open('/student/student3/was-run', 'a').write(__file__)"
    places = [
        ".jupyter/jupyter_server_config.py", ".jupyter/jupyter_config.py", ".local/etc/jupyter/jupyter_config.py",
        f"{SITE}/usercustomize.py", f"{SITE}/sitecustomize.py", ".ipython/extensions/wod_lab.py", "sitecustomize.py",
    ]  # fmt: skip
    preparation = "; ".join(f'mkdir -p $(dirname {place}) && echo "{mark}" > {place}' for place in places)
    switched = '{\\"ServerApp\\": {\\"allow_origin\\": \\"*\\", \\"base_url\\": \\"/his/\\"}}'
    files = [".jupyter/jupyter_server_config.json", ".jupyter/jupyter_server_config.d/his.json"]
    preparation += "; " + "; ".join(f'mkdir -p $(dirname {f}) && echo "{switched}" > {f}' for f in files)
    seat = start(preparation)
    assert seat.ask("lab")[0] == 200
    assert not (seat.home / "was-run").exists()
    assert '"allow_origin": "*"' in (seat.home / files[0]).read_text()
    find = r"find / \( -path /proc -o -path /sys \) -prune -o ! -type l -writable -print 2>/dev/null"
    writable = seat.run("sh", "-c", find).split()
    assert writable
    places = ("/student/student3", "/tmp", "/run", "/dev", "/var/lib/extrausers")
    assert not [path for path in writable if not path.startswith(places)]
    assert "Read-only file system" in seat.run(
        "sh", "-c", "touch /opt/wod/x /etc/jupyter/x 2>&1; touch /x 2>&1"
    )


def test_its_health_is_checked(image: str, seat: Seat):
    """The health check passes where the server answers, and fails where something else does."""
    check = json.loads(docker("inspect", "--format", "{{json .Config.Healthcheck.Test}}", image))[1:]
    for prefix, status in ((PREFIX, 0), ("/user/student4/", 1)):
        words = ["docker", "exec", f"--env=JUPYTERHUB_SERVICE_PREFIX={prefix}", seat.name, *check]
        assert subprocess.run(words, timeout=30, check=False).returncode == status


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--tmpfs=/var/lib/extrausers"], "JUPYTERHUB_USER is ''"),
        (["--env=JUPYTERHUB_USER=student3", "--env=HOME=/student/student3"], "HOME is '/student/student3'"),
        (["--env=JUPYTERHUB_USER=student3", "--env=HOME=/tmp", "--tmpfs=/tmp"], "expected a tmpfs"),
        (
            [
                *[
                    "--env=JUPYTERHUB_USER=student3",
                    "--env=HOME=/tmp",
                    "--tmpfs=/tmp",
                    "--tmpfs=/var/lib/extrausers",
                ],
                "--env=JUPYTERHUB_API_URL=http://127.0.0.1:9/hub/api",
            ],
            "the hub at 127.0.0.1:9 does not tell this server's token",
        ),
    ],
)
def test_a_wrong_start_says_what_is_missing(image: str, arguments: list[str], sentence: str):
    """A container without its name, home, tmpfs or token ends at once, with a sentence."""
    words = ["docker", "run", "--rm", "--read-only", "--network=none", f"--user={UID}:{UID}", *arguments]
    done = subprocess.run([*words, image], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and sentence in done.stderr
