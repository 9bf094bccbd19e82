"""The repositories that workshops and the private overlay come from: fetched, checked, switched to at once.

`<state>/data/repositories/<kind>/` has a folder for each commit that is or was in use, the link `current` to the
one that is, and `status.json`. A new commit is fetched into a folder that nobody reads, checked there, and then
`current` is exchanged by one rename. Whatever goes wrong before that leaves the last good commit in use.

What others write is not trusted: git runs without the host's configuration, hooks, helpers, submodules and
redirects, over https, ssh or from a local folder only, with objects checked and sizes bounded.
"""

import contextlib
import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

from wodctl.errors import ContentProblem, EngineProblem, Unavailable, WodError
from wodctl.model.settings import Settings

KINDS = ("public", "private")
"""The workshops' repository and the private overlay's."""

FOLDER = "data/repositories"
SECRETS = "secrets/repositories"
"""Below the state directory: `<kind>-token`, `<kind>-key`, `known_hosts`."""

OWNER = 1815
"""Uid and gid of service `fetch`. What root fetches belongs to it, so that it can go on with it."""

MOST_FILES = 50_000
MOST_BYTES = 2 * 1024**3
MOST_LEVELS = 64
"""Files and folders that a commit may have, bytes in all of them together, folders within each other."""

SECONDS = 900
"""Until a fetch is given up."""

PATIENCE = 60
"""Seconds to wait where somebody else, the service or an operator, is fetching."""

_MOST_MEMORY = 4 * 1024**3
_MOST_SAID = 64 * 1024
_MOST_LISTED = 16 * 1024**2

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_CONFIGURATION = {
    "core.hooksPath": "/dev/null",
    "core.attributesFile": "/dev/null",
    "core.fsmonitor": "false",
    "core.autocrlf": "false",
    # Larger files pass through; they are never in memory as a whole.
    "core.bigFileThreshold": "16m",
    "credential.helper": "",
    "fetch.fsckObjects": "true",
    # One pack, whose size is bounded, and not a file for each object.
    "fetch.unpackLimit": "1",
    "fetch.recurseSubmodules": "false",
    "gc.auto": "0",
    # An answer that sends us elsewhere would have us show our token there.
    "http.followRedirects": "false",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "30",
    "protocol.allow": "never",
    "protocol.file.allow": "always",
    "protocol.https.allow": "always",
    "protocol.ssh.allow": "always",
    "pack.threads": "1",
    "submodule.recurse": "false",
}
_PASSED_ON = ("PATH", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy")


@dataclass(frozen=True)
class Status:
    """What is known of a repository; times are ISO 8601.

    `commit` is in use since `fetched`. `problem` says why the last try, at `checked`, did not succeed, and
    `code` is the exit code of that kind of problem. `submodules` are left out of what was fetched.
    """

    kind: str
    url: str
    branch: str
    commit: str | None = None
    fetched: str | None = None
    checked: str | None = None
    problem: str | None = None
    code: int = 0
    submodules: tuple[str, ...] = ()


def current(state: Path, kind: str) -> Path:
    """The link to the commit of that repository which is in use."""
    return state / FOLDER / kind / "current"


def sources(settings: Settings) -> dict[str, tuple[str, str]]:
    """Address and branch of each repository that is configured, by its kind."""
    named = {
        "public": (settings.WODNOBOREPO, settings.WODNOBOBRANCH),
        "private": (settings.WODPRIVREPO, settings.WODPRIVBRANCH),
    }
    return {kind: where for kind, where in named.items() if where[0]}


def is_far(url: str) -> bool:
    """Whether that repository is reached over the network, and not a folder of this host."""
    return not url.startswith("file:")


class Repositories:
    """Repositories below a state directory: for each kind, `sources` has its address and branch.

    `askpass` is the program that git asks for a token, `ca_bundle` a file with the authorities to trust; empty:
    those of this host.
    """

    def __init__(
        self, askpass: Path, state: Path, sources: Mapping[str, tuple[str, str]], ca_bundle: str = ""
    ) -> None:
        self._askpass = askpass
        self._state = state
        self._named = sources
        self._ca_bundle = ca_bundle
        self._is_root = os.geteuid() == 0

    @classmethod
    def of(cls, root: Path, state: Path, settings: Settings) -> "Repositories":
        """Those that the settings name; `root` is the checkout."""
        ca_bundle = settings.WODCABUNDLE or os.environ.get("SSL_CERT_FILE", "")
        return cls(root / "conf" / "git" / "askpass", state, sources(settings), ca_bundle)

    def kinds(self) -> list[str]:
        """Those that are configured."""
        return list(self._named)

    def status(self, kind: str) -> Status:
        """What the last `sync` left."""
        url, branch = self._named[kind]
        try:
            kept = json.loads((self._folder(kind) / "status.json").read_text())
        except FileNotFoundError:
            return Status(kind, url, branch)
        return Status(**kept | {"url": url, "branch": branch, "submodules": tuple(kept["submodules"])})

    def sync(self, kind: str) -> bool:
        """Bring into use what the repository has now; False if that is in use already.

        Raises Unavailable for a repository that is away or refuses us, ContentProblem for a commit that we
        refuse. The former commit stays in use then, and `status` tells why.
        """
        with self._locked(kind):
            former = self.status(kind)
            now = datetime.now(timezone.utc).isoformat(timespec="seconds")
            try:
                commit, submodules = self._fetch(kind)
            except WodError as error:
                self._keep(replace(former, checked=now, problem=error.message, code=error.exit_code), kind)
                raise
            is_new = self._switch(kind, commit)
            fetched = now if is_new else former.fetched or now
            url, branch = self._named[kind]
            self._keep(Status(kind, url, branch, commit, fetched, now, submodules=submodules), kind)
            self._remove_all_but(kind, {commit, former.commit or commit})
            return is_new

    def _fetch(self, kind: str) -> tuple[str, tuple[str, ...]]:
        """The commit that the branch has now, checked out in a folder of its name; and its submodules' paths."""
        url, branch = self._named[kind]
        known = self.status(kind)
        if known.commit and (self._folder(kind) / known.commit).is_dir():
            there = branch if _COMMIT.fullmatch(branch) else self._remote_commit(kind, url, branch)
            if there == known.commit:
                return known.commit, known.submodules
        # Root works where nobody else may write, since the repository's folder is the service's.
        here = self._folder(kind).parent if self._is_root else self._folder(kind)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=here) as temporary:
            git_folder, tree = Path(temporary) / "git", Path(temporary) / "tree"
            tree.mkdir()
            self._git(kind, ["init", "--quiet", "--bare", "--template=", str(git_folder)])
            within = [f"--git-dir={git_folder}"]
            words = ["fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--no-auto-gc"]
            self._git(kind, [*within, *words, "--", url, branch or "HEAD"])
            commit = self._git(kind, [*within, "rev-parse", "--verify", "FETCH_HEAD^{commit}"]).strip()
            # Folders too (-t): a few objects can stand for millions of folders without any file.
            words = ["ls-tree", "-r", "-t", "-z", "-l", "--full-tree", commit]
            submodules = _ensure_small(self._git(kind, [*within, *words], most=_MOST_LISTED), kind)
            self._git(kind, [*within, f"--work-tree={tree}", "checkout", "--quiet", "--force", commit])
            _ensure_no_way_out(tree, kind)
            tree.chmod(0o755)
            self._give(tree)
            final = self._folder(kind) / commit
            if final.exists():
                shutil.rmtree(final)
            tree.rename(final)
        return commit, submodules

    def _remote_commit(self, kind: str, url: str, branch: str) -> str:
        """The commit that the branch, the tag or the default branch is at; nothing if there is none of that name."""
        names = (
            [f"refs/heads/{branch}", f"refs/tags/{branch}", f"refs/tags/{branch}^{{}}"]
            if branch
            else ["HEAD"]
        )
        answer = self._git(kind, ["ls-remote", "--quiet", "--", url, *names])
        found = {name: commit for commit, name in (line.split("\t", 1) for line in answer.splitlines())}
        return next((found[name] for name in (names[0], *names[:0:-1]) if name in found), "")

    def _git(self, kind: str, words: list[str], most: int = _MOST_SAID) -> str:
        """Run git, away from all configuration of the host; returns at most so many bytes and one that it printed.

        Raises Unavailable with what it said.
        """
        settings = [part for name, value in _CONFIGURATION.items() for part in ("-c", f"{name}={value}")]
        # prlimit bounds each file that git writes, the pack that comes over the network among them.
        limits = [f"--fsize={MOST_BYTES}", f"--as={_MOST_MEMORY}", f"--cpu={SECONDS}"]
        try:
            process = subprocess.Popen(
                ["prlimit", *limits, "git", *settings, *words], env=self._environment(kind), cwd="/",
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, umask=0o022,
                start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError:
            raise EngineProblem(
                "git is not installed, so that workshops cannot be fetched.", hint="`apt-get install git`."
            ) from None
        with process, _Limited(process, SECONDS) as limited:
            assert process.stdout and process.stderr
            said = _LastBytes(process.stderr)
            output = process.stdout.read(most + 1)
            if len(output) > most:
                limited.kill()
            code = process.wait()
            limited.kill()  # what it left would keep its standard error open
            said.join(5)
        if limited.timed_out:
            raise Unavailable(f"The {kind} repository did not answer within {SECONDS} s.")
        if code != 0 and len(output) <= most:
            raise self._refusal(kind, said.text())
        return output.decode("utf-8", "surrogateescape")

    def _refusal(self, kind: str, said: str) -> WodError:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        reason = next((line for line in lines if line.startswith(("fatal:", "error:"))), "git failed")
        reason = reason.partition(": ")[2] or reason
        # A server may have written it: nothing that moves a cursor.
        reason = "".join(sign if sign.isprintable() else "?" for sign in reason[:300])
        if "signal 25" in said:
            return ContentProblem(f"The {kind} repository has more than {MOST_BYTES // 1024**3} GiB.")
        if "out of memory" in said.lower():
            return ContentProblem(f"The {kind} repository takes more memory than any should: {reason}.")
        if "fsck" in said:
            return ContentProblem(f"The {kind} repository holds what git refuses: {reason}.")
        return Unavailable(
            f"The {kind} repository cannot be fetched: {reason.rstrip('.')}.",
            hint=f"If it needs a key or a token, that is {self._state / SECRETS}/{kind}-key or {kind}-token.",
        )

    def _environment(self, kind: str) -> dict[str, str]:
        secrets = self._state / SECRETS
        token, key = secrets / f"{kind}-token", secrets / f"{kind}-key"
        for secret in (token, key):
            if secret.exists() and not os.access(secret, os.R_OK):
                raise Unavailable(
                    f"{secret.name} of the {kind} repository cannot be read by the user that fetches.",
                    hint="`wodctl up` gives the files in secrets/repositories to him.",
                )
        known = [secrets / "known_hosts"]
        if not os.access(secrets, os.W_OK):
            # The service cannot write there; a host that it meets for the first time it notes where it can.
            known.insert(0, self._folder(kind) / "known_hosts")
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment |= {
            "HOME": "/nonexistent",
            "LC_ALL": "C.UTF-8",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "/bin/false",
            "GIT_SSH_VARIANT": "ssh",
            "GIT_SSH_COMMAND": shlex.join(_ssh(known, key if key.exists() else None)),
        }
        if token.exists():
            environment |= {"GIT_ASKPASS": str(self._askpass), "WOD_TOKEN_FILE": str(token)}
        if self._ca_bundle:
            environment["GIT_SSL_CAINFO"] = self._ca_bundle
        return environment

    def _switch(self, kind: str, commit: str) -> bool:
        """Let `current` name that commit from one moment to the next; False if it did."""
        link = current(self._state, kind)
        if link.is_symlink() and os.readlink(link) == commit:
            return False
        fresh = link.with_name(".current")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(commit)
        fresh.replace(link)
        return True

    def _remove_all_but(self, kind: str, commits: set[str]) -> None:
        """Deliveries under way may still read the former commit; nobody reads older ones, or what a crash left."""
        for path in self._folder(kind).iterdir():
            if path.is_dir() and not path.is_symlink() and path.name not in commits:
                shutil.rmtree(path)

    def _keep(self, status: Status, kind: str) -> None:
        path = self._folder(kind) / "status.json"
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with open(os.open(fresh, flags, 0o644), "w", encoding="utf-8") as file:
            file.write(json.dumps(asdict(status), indent=1) + "\n")
        self._give(fresh)
        fresh.replace(path)

    @contextmanager
    def _locked(self, kind: str) -> Iterator[None]:
        folder, secrets = self._folder(kind), self._state / SECRETS
        if not secrets.exists():
            secrets.mkdir(mode=0o700, parents=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        # What is private at the portal's side is not for everybody who has a login here.
        folder.mkdir(mode=0o755 if kind == "public" else 0o700, exist_ok=True)
        self._give(folder, within=False)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(folder / "lock", flags, 0o644), "rb+") as lock:
            self._give(folder / "lock")
            until = time.monotonic() + PATIENCE
            while not _is_ours(lock):
                if time.monotonic() > until:
                    raise Unavailable(f"The {kind} repository is being fetched already, for {PATIENCE} s.")
                time.sleep(0.1)
            yield

    def _give(self, path: Path, *, within: bool = True) -> None:
        """What root made is the service's; `within`: and so is what is in it."""
        if not self._is_root:
            return
        os.chown(path, OWNER, OWNER, follow_symlinks=False)
        if within and path.is_dir() and not path.is_symlink():
            for folder, folders, files in os.walk(path):
                for name in [*folders, *files]:
                    os.chown(os.path.join(folder, name), OWNER, OWNER, follow_symlinks=False)

    def _folder(self, kind: str) -> Path:
        return self._state / FOLDER / kind


def _is_ours(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _ssh(known_hosts: list[Path], key: Path | None) -> list[str]:
    """A host's key is taken at the first contact, unless a file has it, and must be the same ever after.

    The first file gets the new ones.
    """
    options: Mapping[str, str] = {
        "BatchMode": "yes",
        "ConnectTimeout": "20",
        "GlobalKnownHostsFile": "/dev/null",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "StrictHostKeyChecking": "accept-new",
        "UserKnownHostsFile": " ".join(map(str, known_hosts)),
    }
    words = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    return ["ssh", "-F", "/dev/null", *words, *(["-i", str(key)] if key else [])]


class _Limited:
    """For the time of the `with`, a process and all that it started have so many seconds, then they are killed."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self.timed_out = False
        self._process = process
        self._timer = threading.Timer(seconds, self._time_is_over)

    def __enter__(self) -> "_Limited":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self.kill()

    def kill(self) -> None:
        """End what is left of them; they are a session of their own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _time_is_over(self) -> None:
        self.timed_out = True
        self.kill()


class _LastBytes(threading.Thread):
    """Reads a stream to its end and keeps its last words: a server may send more of them than fits in memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self._kept: deque[bytes] = deque(maxlen=16)
        self.start()

    def run(self) -> None:
        while chunk := os.read(self._stream.fileno(), _MOST_SAID // 16):
            self._kept.append(chunk)

    def text(self) -> str:
        """What was said, as far as it is read."""
        return b"".join(self._kept).decode("utf-8", "replace")


def _ensure_small(listing: str, kind: str) -> tuple[str, ...]:
    """Refuse a commit that is no collection of workshops; returns the paths of its submodules.

    `listing` is what `git ls-tree -r -t -z -l` printed, or its beginning.
    """
    entries = [entry.split("\t", 1) for entry in listing.split("\0") if entry]
    if len(entries) > MOST_FILES or len(listing) > _MOST_LISTED:
        raise ContentProblem(
            f"The {kind} repository has more than {MOST_FILES} files and folders, or names longer than any should "
            "be: expected workshops."
        )
    size = 0
    submodules = []
    for about, path in entries:
        _, type_, _, bytes_ = about.split()
        if path.count("/") > MOST_LEVELS:
            raise ContentProblem(
                f"The {kind} repository has folders within each other, {path.count('/')} levels deep; "
                f"at most {MOST_LEVELS} are taken: {path[:60]!a}…"
            )
        if type_ == "commit":
            submodules.append(path.encode("utf-8", "replace").decode())
        elif type_ == "blob":
            size += int(bytes_)
    if size > MOST_BYTES:
        raise ContentProblem(
            f"The {kind} repository has {size / 1024**3:.1f} GiB in its files; "
            f"at most {MOST_BYTES // 1024**3} GiB are taken."
        )
    return tuple(submodules)


def _ensure_no_way_out(tree: Path, kind: str) -> None:
    top = os.path.realpath(tree)
    for folder, folders, files in os.walk(top):
        for name in [*folders, *files]:
            path = os.path.join(folder, name)
            if os.path.islink(path) and (
                os.path.isabs(os.readlink(path)) or not os.path.realpath(path).startswith(top + os.sep)
            ):
                raise ContentProblem(
                    f"The {kind} repository has a link that leads out of it: {os.path.relpath(path, top)!a}."
                )
