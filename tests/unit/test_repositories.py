"""Repositories fetched with a real git, over a local folder, https with a token, and ssh with a key."""

import fcntl
import http.server
import itertools
import json
import os
import resource
import ssl
import stat
import subprocess
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from wodctl.adapters import configuration, repositories
from wodctl.adapters.repositories import Repositories, current
from wodctl.adapters.workshops import Workshops
from wodctl.errors import ConfigProblem, ContentProblem, Unavailable

ROOT = Path(__file__).resolve().parents[2]
FIRST = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}\n'
TOKEN = "t0k3n-that-nobody-may-see"  # noqa: S105 - of the test's own server


def git(*words: str | Path, cwd: Path, text: str | None = None) -> str:
    who = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    for role in ("AUTHOR", "COMMITTER"):
        who |= {f"GIT_{role}_NAME": "Ada", f"GIT_{role}_EMAIL": "ada@example.org"}
    done = subprocess.run(
        ["git", *map(str, words)],
        cwd=cwd,
        env=os.environ | who,
        capture_output=True,
        text=True,
        check=True,
        input=text,
    )
    return done.stdout.strip()


class Origin:
    """A repository somewhere else, with a workshop WKSHP-X that has one file to tell its commits apart."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        git("init", "--quiet", "--initial-branch=main", cwd=path)
        self.add("WKSHP-X/0-ReadMeFirst.ipynb", FIRST)
        self.commit("one")

    @property
    def url(self) -> str:
        return f"file://{self.path}"

    def add(self, name: str, content: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def commit(self, version: str) -> str:
        self.add("WKSHP-X/version.txt", version)
        git("add", "--all", cwd=self.path)
        git("commit", "--quiet", "--message", version, cwd=self.path)
        return git("rev-parse", "HEAD", cwd=self.path)


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "origin")


def fetcher(state: Path, url: str, branch: str = "", kind: str = "public", **settings: str) -> Repositories:
    names = {"public": ("WODNOBOREPO", "WODNOBOBRANCH"), "private": ("WODPRIVREPO", "WODPRIVBRANCH")}[kind]
    given = dict(zip(names, (url, branch), strict=True)) | settings
    return Repositories.of(ROOT, state, configuration.load(ROOT, state, {}, given)[0])


def version(state: Path, kind: str = "public") -> str:
    return (current(state, kind) / "WKSHP-X/version.txt").read_text()


def leftovers(state: Path, kind: str = "public") -> set[str]:
    return {path.name for path in (state / "data/repositories" / kind).iterdir()}


def test_a_sync_brings_the_commit_of_the_branch_into_use(origin: Origin, tmp_path: Path):
    """A folder named by the commit, the link to it, nothing of git's; a second sync changes nothing."""
    found = fetcher(tmp_path, origin.url)
    assert found.status("public").commit is None
    assert found.sync("public") is True
    commit = git("rev-parse", "HEAD", cwd=origin.path)
    assert os.readlink(current(tmp_path, "public")) == commit
    assert (version(tmp_path), found.status("public").commit) == ("one", commit)
    assert leftovers(tmp_path) == {commit, "current", "lock", "status.json"}
    assert set(os.listdir(current(tmp_path, "public"))) == {"WKSHP-X"}
    assert found.sync("public") is False
    assert found.status("public").problem is None


def test_a_new_commit_replaces_the_former_which_stays_for_deliveries_under_way(
    origin: Origin, tmp_path: Path
):
    """Of older ones nothing is left."""
    found = fetcher(tmp_path, origin.url)
    commits = []
    for name in ("two", "three", "four"):
        commits.append(origin.commit(name))
        assert found.sync("public") is True
        assert version(tmp_path) == name
    assert leftovers(tmp_path) == {*commits[1:], "current", "lock", "status.json"}


def test_a_branch_a_tag_and_a_commit_can_be_named(origin: Origin, tmp_path: Path):
    """A commit stays what it is, whatever is added to the branch."""
    first = git("rev-parse", "HEAD", cwd=origin.path)
    git("tag", "--annotate", "v1", "--message", "v1", cwd=origin.path)
    git("checkout", "--quiet", "-b", "next/step", cwd=origin.path)
    origin.commit("two")
    git("checkout", "--quiet", "main", cwd=origin.path)
    origin.commit("three")
    for branch, expected in (
        ("", "three"),
        ("next/step", "two"),
        ("v1", "one"),
        (first, "one"),
        ("main", "three"),
    ):
        found = fetcher(tmp_path, origin.url, branch)
        found.sync("public")
        assert version(tmp_path) == expected, branch
        assert found.sync("public") is False, branch


def test_a_delivery_sees_one_commit_from_beginning_to_end(origin: Origin, tmp_path: Path):
    """What was found before a switch is delivered after it; the next delivery has the new commit."""
    found = fetcher(tmp_path, origin.url)
    found.sync("public")
    settings = configuration.load(ROOT, tmp_path, {}, {"WODNOBOREPO": origin.url})[0]
    workshops = Workshops(settings, Path(settings.WODNOBO))
    before = workshops.workshop("WKSHP-X")
    origin.commit("two")
    found.sync("public")
    for home, workshop, expected in (("a", before, "one"), ("b", workshops.workshop("WKSHP-X"), "two")):
        (tmp_path / home).mkdir()
        workshops.fill(tmp_path / home, workshop, "WKSHP", 3, os.geteuid(), os.getegid())
        assert (tmp_path / home / "WKSHP-X/version.txt").read_text() == expected


def test_the_switch_is_never_seen_half_done(origin: Origin, tmp_path: Path):
    """While commits follow each other, whoever reads finds a whole one at every moment."""
    found = fetcher(tmp_path, origin.url)
    found.sync("public")
    stop = threading.Event()
    seen: set[str] = set()
    wrong: list[str] = []

    def read() -> None:
        while not stop.is_set():
            folder = current(tmp_path, "public").resolve()
            texts = {(folder / name).read_text() for name in ("WKSHP-X/version.txt", "WKSHP-X/other.txt")
                     if (folder / name).exists() or name.endswith("version.txt")}  # fmt: skip
            seen.update(texts)
            if len(texts) != 1:
                wrong.append(f"{folder}: {texts}")

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for name in ("two", "three", "four"):
            origin.add("WKSHP-X/other.txt", name)
            origin.commit(name)
            found.sync("public")
    finally:
        stop.set()
        reader.join()
    assert not wrong
    assert "four" in seen | {version(tmp_path)}


@pytest.mark.parametrize(
    "trouble", ["gone", "branch", "link", "inner link", "many", "large", "submodule away"]
)
def test_a_repository_that_is_away_or_refused_leaves_the_last_good_commit(
    origin: Origin, tmp_path: Path, trouble: str, monkeypatch: pytest.MonkeyPatch
):
    """The reason is raised and kept, nothing of the failed try is left, and the next good commit is taken."""
    found = fetcher(tmp_path, origin.url, "main")
    found.sync("public")
    good = found.status("public").commit
    error: type[Exception] = ContentProblem
    if trouble == "gone":
        origin.path.rename(tmp_path / "elsewhere")
        error, told = Unavailable, "cannot be fetched"
    elif trouble == "branch":
        git("branch", "-m", "main", "other", cwd=origin.path)
        error, told = Unavailable, "couldn't find remote ref main"
    elif trouble == "link":
        (origin.path / "WKSHP-X" / "shadow").symlink_to("/etc/shadow")
        told = "a link that leads out of it: 'WKSHP-X/shadow'"
    elif trouble == "inner link":
        (origin.path / "WKSHP-X" / "up").symlink_to("../../../status.json")
        told = "a link that leads out of it: 'WKSHP-X/up'"
    elif trouble == "many":
        monkeypatch.setattr(repositories, "MOST_FILES", 2)
        told = "has more than 2 files and folders"
        origin.add("WKSHP-X/third", "x")
    elif trouble == "large":
        monkeypatch.setattr(repositories, "MOST_BYTES", 2**20)
        origin.add("WKSHP-X/zeros", "0" * 2**21)  # some hundred bytes when they are fetched
        told = "at most 0 GiB are taken"
    else:
        origin.add(".gitmodules", '[submodule "m"]\n\tpath = m\n\turl = --upload-pack=touch /tmp/pwned\n')
        error, told = ContentProblem, "what git refuses"
    if error is ContentProblem:
        origin.commit("bad")
    with pytest.raises(error, match=told):
        found.sync("public")
    status = found.status("public")
    assert (status.commit, version(tmp_path)) == (good, "one")
    assert status.problem and status.checked
    assert leftovers(tmp_path) == {good, "current", "lock", "status.json"}
    if trouble == "link":
        (origin.path / "WKSHP-X" / "shadow").unlink()
        origin.commit("better")
        assert found.sync("public") is True
        assert (version(tmp_path), found.status("public").problem) == ("better", None)


def packed(origin: Origin, tree: str) -> None:
    """Commit a tree that is in no folder."""
    commit = git("commit-tree", "-p", "HEAD", "-m", "bomb", tree, cwd=origin.path)
    git("update-ref", "refs/heads/main", commit, cwd=origin.path)


@pytest.mark.parametrize("leaf", ["blob", "empty folder", "deep"])
def test_a_few_objects_that_stand_for_millions_of_files_are_refused_at_once(
    origin: Origin, tmp_path: Path, leaf: str
):
    """Folders that hold themselves ten times, ten levels deep; or a thousand folders within each other."""
    found = fetcher(tmp_path, origin.url)
    found.sync("public")
    empty = git("hash-object", "-t", "tree", "-w", "--stdin", cwd=origin.path, text="")
    blob = git("hash-object", "-w", "--stdin", cwd=origin.path, text="x")
    line = f"040000 tree {empty}\tz" if leaf == "empty folder" else f"100644 blob {blob}\tz"
    tree = git("mktree", cwd=origin.path, text=line)
    for _ in range(200 if leaf == "deep" else 10):
        names = range(1 if leaf == "deep" else 10)
        tree = git("mktree", cwd=origin.path, text="\n".join(f"040000 tree {tree}\td{n}" for n in names))
    packed(origin, tree)
    start = time.monotonic()
    with pytest.raises(ContentProblem, match=r"65 levels deep|more than 50000 files and folders"):
        found.sync("public")
    assert time.monotonic() - start < 120
    assert version(tmp_path) == "one"
    assert leftovers(tmp_path) == {found.status("public").commit, "current", "lock", "status.json"}


def test_a_server_that_talks_without_end_or_says_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Gigabytes of messages are not kept; what still runs when the time is over is ended with its children."""
    monkeypatch.setattr(repositories, "SECONDS", 2)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/ssh"
    program.write_text("#!/bin/sh\n(sleep 1000) &\nyes '\033[31mremote: pay attention' >&2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = fetcher(tmp_path / "state", "git@forge.example.org:x.git")
    with pytest.raises(Unavailable, match="did not answer within 2 s"):
        found.sync("public")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    program.write_text("#!/bin/sh\nprintf 'fatal: \\033[31m%01000d\\n' 1 >&2\nexit 1\n")
    with pytest.raises(Unavailable, match="cannot be fetched") as caught:
        found.sync("public")
    assert caught.value.message.isprintable() and len(caught.value.message) < 500


def test_nothing_of_a_repository_is_run(origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Neither hooks, filters and helpers of the host's configuration nor what attributes name."""
    traces = tmp_path / "traces"
    traces.mkdir()
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for hook in ("post-checkout", "reference-transaction", "post-index-change"):
        (hooks / hook).write_text(f"#!/bin/sh\ntouch {traces}/{hook}\n")
        (hooks / hook).chmod(0o755)
    (tmp_path / "gitconfig").write_text(
        f'[core]\n\thooksPath = {hooks}\n[filter "evil"]\n\tsmudge = touch {traces}/smudge\n'
        f"[credential]\n\thelper = !touch {traces}/credential\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    origin.add(".gitattributes", "* filter=evil\n")
    monkeypatch.delenv("GIT_DIR")
    origin.commit("two")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    fetcher(tmp_path, origin.url).sync("public")
    assert os.listdir(traces) == []
    assert version(tmp_path) == "two"


def test_a_submodule_is_left_out_and_named(origin: Origin, tmp_path: Path):
    """It is a repository of somebody else, whom nobody has named here."""
    git(
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        origin.url,
        "inner",
        cwd=origin.path,
    )
    origin.commit("two")
    found = fetcher(tmp_path, origin.url)
    found.sync("public")
    assert found.status("public").submodules == ("inner",)
    assert os.listdir(current(tmp_path, "public") / "inner") == []


def test_the_private_overlay_is_nobody_else_s_to_read(origin: Origin, tmp_path: Path):
    """Its folder is closed, and the settings take the overlay from it."""
    origin.add("ansible/group_vars/production", "WODUSERMAX: 42\n")
    origin.commit("two")
    fetcher(tmp_path, origin.url, kind="private").sync("private")
    assert stat.S_IMODE((tmp_path / "data/repositories/private").stat().st_mode) == 0o700
    settings, origins = configuration.load(ROOT, tmp_path, {}, {"WODPRIVREPO": origin.url})
    assert settings.WODUSERMAX == 42
    assert Path(settings.WODPRIVDIR) == current(tmp_path, "private")
    assert origins["WODPRIVDIR"] == "WODPRIVREPO"


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{TOKEN}@example.org/x.git",
        f"https://{TOKEN}@example.org/x.git",
        "http://example.org/x.git",
        "git://example.org/x.git",
        "ext::sh -c touch% /tmp/pwned",
        "--upload-pack=touch /tmp/pwned",
        "ssh://-oProxyCommand=touch/x",
        "../x",
    ],
)
def test_an_address_that_is_unsafe_or_holds_a_secret_is_refused(tmp_path: Path, url: str):
    """And the refusal does not repeat it."""
    with pytest.raises(ConfigProblem, match="WODNOBOREPO is no address") as caught:
        fetcher(tmp_path, url)
    assert url not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("branch", ["--upload-pack=x", "a..b", "a b", "a:b", "+a"])
def test_a_branch_that_is_none_is_refused(tmp_path: Path, branch: str):
    """It goes to git's command line."""
    with pytest.raises(ConfigProblem, match="a branch, tag or commit"):
        fetcher(tmp_path, "https://example.org/x.git", branch)


# --- Secrets: https with a token, ssh with a key ----


def everything_below(path: Path) -> bytes:
    return b"".join(one.read_bytes() for one in path.rglob("*") if one.is_file() and not one.is_symlink())


def secret(state: Path, name: str, content: str) -> Path:
    path = state / "secrets/repositories" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(0o600)
    return path


class Forge(http.server.BaseHTTPRequestHandler):
    """A Git hosting: git's own http-backend behind a token. `asked` are user and password of each request."""

    origin: Path
    asked: list[str]
    elsewhere = ""

    def answer(self) -> None:
        given = self.headers.get("Authorization", "")
        self.asked.append(b64decode(given.partition(" ")[2]).decode())
        if self.elsewhere:
            self.send_response(302)
            self.send_header("Location", self.elsewhere + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if not self.asked[-1].endswith(f":{TOKEN}"):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="forge"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        done = subprocess.run(
            ["git", "http-backend"], input=body, capture_output=True, check=True,
            env={"PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(self.origin.parent), "GIT_HTTP_EXPORT_ALL": "1",
                 "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command, "REMOTE_USER": "x",
                 "CONTENT_TYPE": self.headers.get("Content-Type", ""), "HTTP_CONTENT_ENCODING":
                 self.headers.get("Content-Encoding", ""), "GIT_PROTOCOL": self.headers.get("Git-Protocol", "")},
        )  # fmt: skip
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(lines.pop("Status", "200").split()[0]))
        for name, value in (lines | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = answer

    def log_message(self, *_: object) -> None:
        """Be silent."""


@pytest.fixture
def forge(origin: Origin, tmp_path: Path) -> Iterator[tuple[type[Forge], str, Path]]:
    with serving(origin, tmp_path, "127.0.0.1") as found:
        yield found


@contextmanager
def serving(origin: Origin, folder: Path, address: str) -> Iterator[tuple[type[Forge], str, Path]]:
    """A server on this host with a certificate of its own; its handler, address and authority, in `folder`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .issuer_name(name)
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(1))
        .not_valid_after(now + timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    authority = folder / "ca.pem"
    authority.write_bytes(certificate.public_bytes(pem))
    (folder / "both.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + authority.read_bytes()
    )
    handler = type("Handler", (Forge,), {"origin": origin.path, "asked": []})
    server = http.server.ThreadingHTTPServer((address, 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield handler, f"https://{address}:{server.server_port}/{origin.path.name}/.git", authority
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("written", "user"), [(f"{TOKEN}\n", "git"), (f"oauth2:{TOKEN}", "oauth2")])
def test_a_token_opens_a_repository_and_is_written_nowhere(forge, tmp_path: Path, written: str, user: str):
    """It is the password of a request, and in no file of ours but its own."""
    handler, url, authority = forge
    state = tmp_path / "state"
    token = secret(state, "public-token", written)
    found = fetcher(state, url, WODCABUNDLE=str(authority))
    found.sync("public")
    assert f"{user}:{TOKEN}" in handler.asked
    assert version(state) == "one"
    token.unlink()
    assert TOKEN.encode() not in everything_below(state)
    with pytest.raises(Unavailable, match="cannot be fetched") as caught:
        found.sync("public")
    assert "public-token" in caught.value.hint


def test_a_wrong_token_is_refused_without_being_shown(forge, tmp_path: Path):
    """The hint names the file."""
    _, url, authority = forge
    secret(tmp_path / "state", "public-token", "wr0ng-token")
    found = fetcher(tmp_path / "state", url, WODCABUNDLE=str(authority))
    with pytest.raises(Unavailable, match="Authentication failed") as caught:
        found.sync("public")
    assert "wr0ng-token" not in caught.value.message + caught.value.hint


def test_a_token_is_not_carried_elsewhere(forge, tmp_path: Path):
    """An answer that sends us to another host is an error."""
    handler, url, authority = forge
    secret(tmp_path / "state", "public-token", TOKEN)
    handler.elsewhere = "https://localhost:1"
    with pytest.raises(Unavailable):
        fetcher(tmp_path / "state", url, WODCABUNDLE=str(authority)).sync("public")
    assert set(handler.asked) == {""}


def test_a_server_whose_certificate_nobody_vouches_for_is_refused(forge, tmp_path: Path):
    """It never sees the token."""
    handler, url, _ = forge
    secret(tmp_path / "state", "public-token", TOKEN)
    with pytest.raises(Unavailable, match="certificate"):
        fetcher(tmp_path / "state", url, WODCABUNDLE="/etc/ssl/certs/ca-certificates.crt").sync("public")
    assert handler.asked == []


def test_ssh_is_called_with_the_deploy_key_and_known_hosts_alone(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A stand-in for ssh notes how it is called, and speaks git's protocol with the repository."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/ssh"
    program.write_text(
        f"#!{sys.executable}\nimport json, os, sys\njson.dump(sys.argv, open({str(tmp_path / 'said')!r}, 'w'))\n"
        f"os.execvp('git', ['git', 'upload-pack', {str(origin.path)!r}])\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    state = tmp_path / "state"
    key = secret(state, "private-key", "a key")
    fetcher(state, "git@forge.example.org:site/private.git", kind="private").sync("private")
    said = json.loads((tmp_path / "said").read_text())
    assert said[-2:] == ["git@forge.example.org", "git-upload-pack 'site/private.git'"]
    assert said[said.index("-i") + 1] == str(key)
    options = dict(
        word.split("=", 1) for flag, word in itertools.pairwise(said) if flag == "-o" and "=" in word
    )
    assert options["UserKnownHostsFile"] == str(state / "secrets/repositories/known_hosts")
    assert (options["IdentitiesOnly"], options["BatchMode"]) == ("yes", "yes")
    assert options["StrictHostKeyChecking"] == "accept-new"
    assert (current(state, "private") / "WKSHP-X").is_dir()


# --- The commands ----


def wodctl(state: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wodctl", "--state", str(state), "notebooks", *words],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_operator_syncs_and_sees_what_is_in_use(origin: Origin, tmp_path: Path):
    """`sync` says what is new, `status` what is there; both tell when a repository is away, with exit code 7."""
    state = tmp_path / "state"
    done = wodctl(state, "sync", WODNOBOREPO=origin.url)
    commit = git("rev-parse", "HEAD", cwd=origin.path)
    assert done.returncode == 0, done.stderr
    assert f"public: {commit[:12]} (default branch) is now in use." in done.stdout
    assert "1 workshops can be delivered" in done.stdout
    [document] = json.loads(wodctl(state, "status", "--json", WODNOBOREPO=origin.url).stdout)
    assert (document["kind"], document["url"], document["commit"]) == ("public", origin.url, commit)
    origin.path.rename(tmp_path / "elsewhere")
    done = wodctl(state, "sync", "--json", WODNOBOREPO=origin.url)
    assert done.returncode == 7
    assert json.loads(done.stdout)[0]["commit"] == commit
    assert f"Still in use: public {commit[:12]}" in done.stderr
    done = wodctl(state, "status", WODNOBOREPO=origin.url)
    assert done.returncode == 7
    assert commit[:12] in done.stdout and "cannot be fetched" in done.stdout


def test_who_comes_while_another_fetches_waits_for_his_turn(origin: Origin, tmp_path: Path):
    """The service and the operator may do it at the same time: neither is refused, both find the commit in use."""
    found = fetcher(tmp_path, origin.url)
    found.sync("public")
    origin.commit("two")
    with open(tmp_path / "data/repositories/public/lock", "rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        threading.Timer(0.3, fcntl.flock, (lock.fileno(), fcntl.LOCK_UN)).start()
        assert found.sync("public")
    assert version(tmp_path) == "two"


def test_a_site_of_folders_is_told_how_to_name_a_repository(tmp_path: Path):
    """Exit code 2, and the settings' names."""
    done = wodctl(tmp_path / "state", "sync")
    assert done.returncode == 2
    assert "WODNOBOREPO" in done.stderr
