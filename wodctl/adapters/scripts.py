"""Scripts of the site, and the compiler, at work for one seat: each in a container of its own.

What such a container may read is laid out in a folder for the seat, `site`; what it makes for us lies in another,
`made`. Both are there only while an action on the seat is under way: what is found at the worker's start was left
by one that was killed, and so may be its container.
"""

import dataclasses
import os
import shlex
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notebooks_loader import delivery, rendering, tree, vault
from notebooks_loader.catalogue import Workshop
from wodctl.adapters import trash
from wodctl.adapters.containers import Containers
from wodctl.adapters.labs import PLAIN
from wodctl.adapters.workshops import Workshops
from wodctl.errors import ActionFailed, ContentProblem
from wodctl.model import scripts as model
from wodctl.model.scripts import SITE, Occasion
from wodctl.model.seat import user_name
from wodctl.model.settings import STUDENTS_DIRECTORY, Settings, size_in_bytes

MOST_OUTPUT = 16 * 1024
"""Characters of a script's output that are kept: its end."""

COMPILE_SECONDS = 60
"""How long the compiler may take for all scripts of a workshop."""

_GRACE = 15.0
"""Seconds that we wait beyond the limit, at which the container should have ended by itself."""

_LARGEST_PROGRAM = 16 * 2**20
_COMPILE = 'for script; do shc -r -f "$script" -o "$script.x" || exit; done'
_SHORTEST_SECRET = 4


@dataclass(frozen=True)
class Place:
    """The worker's folders and the names that it gives to the engine for them."""

    project: str
    state: str
    lab: str
    compiler: str
    layouts: Path = Path("/srv/scripts")
    public: Path = Path("/srv/public-scripts")
    secrets: Path = Path("/srv/script-secrets")
    homes: Path = Path(STUDENTS_DIRECTORY)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Place":
        """As the stack tells it."""
        images = dict(word.split("=", 1) for word in environment["WOD_LABS"].split())
        names = ("WOD_PROJECT", "WOD_STATE", "WOD_COMPILER_IMAGE")
        project, state, compiler = (environment[name] for name in names)
        return cls(project, state, images[PLAIN], compiler)


@dataclass(frozen=True)
class Script:
    """A script that the site has for an occasion; `name` is how it is called, `public create-WKSHP-X.sh`."""

    name: str
    path: str


@dataclass(frozen=True)
class Ran:
    """How a script ended: its exit status, None where it was stopped at the limit, and the end of its output."""

    status: int | None
    output: str


class Scripts:
    """The scripts of a site: of the public folder, then of the private repository."""

    def __init__(
        self, settings: Settings, workshops: Workshops, containers: Containers, place: Place
    ) -> None:
        self._settings = settings
        self._workshops = workshops
        self._containers = containers
        self._place = place

    def ensure_tidy(self) -> None:
        """No container and no folder is left of what a killed worker had begun. Raises Unavailable."""
        layouts = self._place.layouts
        for left in sorted(layouts.glob("student*")):
            self._containers.ensure_absent(self._container(int(left.name.removeprefix("student"))))
            trash.remove(layouts, left.name)
        for left in sorted((layouts / trash.NAME).glob("*")):
            trash.remove(layouts, f"{trash.NAME}/{left.name}")

    def named(self, kind: str, folder: str) -> list[Script]:
        """The scripts of that kind that the site has for a workshop, in the order in which they run.

        Raises ContentProblem for one that is there and not executable.
        """
        file = model.file_name(kind, folder)
        found = []
        for name, root, target in self._roots():
            if _is_there(root, file):
                if not _can_run(root, file):
                    raise ContentProblem(
                        f"The {name} script {file} is not executable, so that it cannot be run.",
                        hint="Make it so (chmod +x), or remove it.",
                    )
                found.append(Script(f"{name} {file}", f"{target}/{file}"))
        return found

    @contextmanager
    def at(self, occasion: Occasion) -> Iterator["Desk"]:
        """Where scripts for this occasion run; nothing is left of them at the end of the `with`."""
        desk = Desk(self._settings, self._workshops, self._containers, self._place, self._roots(), occasion)
        try:
            yield desk
        finally:
            desk.clear()

    def _roots(self) -> list[tuple[str, Path, str]]:
        private = self._workshops.private
        return [
            ("public", self._place.public, f"{SITE}/scripts"),
            *([("private", private.resolve() / "scripts", f"{SITE}/private/scripts")] if private else []),
        ]

    def _container(self, seat: int) -> str:
        return f"{self._place.project}-script{seat}"


def problems(workshop: Workshop, folders: Sequence[Path]) -> list[str]:
    """What would stop a workshop's actions: scripts in these folders that cannot be run, or are not there."""
    files = [model.file_name(kind, workshop.name) for kind in model.KINDS]
    found = [
        f"The script {folder / file} is not executable, so that it cannot be run."
        for folder in folders
        for file in files
        if _is_there(folder, file) and not _can_run(folder, file)
    ]
    return found + [
        f"wod.yml: compile names {name}, which is in no folder of scripts."
        for name in workshop.metadata.compile
        if not any(_is_there(folder, name) for folder in folders)
    ]


class Desk:
    """Scripts for one occasion. Methods raise Unavailable where another attempt may succeed."""

    def __init__(
        self,
        settings: Settings,
        workshops: Workshops,
        containers: Containers,
        place: Place,
        roots: Sequence[tuple[str, Path, str]],
        occasion: Occasion,
    ) -> None:
        self._settings = settings
        self._workshops = workshops
        self._containers = containers
        self._place = place
        self._roots = roots
        self._occasion = occasion
        self._name = f"{place.project}-script{occasion.seat}"
        self._layout = place.layouts / user_name(occasion.seat)
        self._secrets: set[str] = set()
        self._laid_out = False

    @property
    def folder(self) -> str:
        """The workshop's folder."""
        return self._occasion.folder

    @property
    def made(self) -> Path | None:
        """The folder with what scripts have made for us so far: values for notebooks. Hostile."""
        return self._layout / "made" if self._laid_out else None

    def run(self, script: Script, workshop: Workshop | None, home: Path | None) -> Ran:
        """Run a script; `home` is where the seat's home is now, None for one without.

        Raises ContentProblem if what it needs cannot be rendered, ActionFailed if it cannot be started.
        """
        self._ensure_laid_out(workshop)
        seconds = self._settings.WODSCRIPTSECONDS
        metadata = workshop.metadata if workshop else _NO_METADATA
        environment = model.environment(self._settings, self._occasion, metadata)
        group = self._settings.WODGROUP
        document = self._document(
            image=self._place.lab,
            words=[script.path],
            environment=environment | {"BASH_ENV": f"{SITE}/secrets.sh"},
            mounts=[
                self._mount("site", SITE, read_only=True),
                self._mount("made", f"{SITE}/made"),
                self._mount("made", f"{SITE}/private/ansible/{group}/pass"),
                *([self._home(home)] if home else []),
            ],
            network=model.may_use_network(self._settings, self._occasion),
        ) | {"Entrypoint": ["tini", "-g", "--", "wod-script"], "WorkingDir": f"{SITE}/notebooks"}
        return self._ran(document, seconds)

    def compile(self, names: Sequence[str], workshop: Workshop, home: Path) -> str:
        """Make programs of scripts, `<name>.x` in the home; returns what the compiler had to say.

        A script is looked for in the public folder, then in the private one, and is rendered with the variables
        of the delivery; neither its text nor anything that the compiler makes of it on the way reaches the home.
        Raises ContentProblem for one that is missing or cannot be rendered, ActionFailed if it does not compile.
        """
        self._ensure_laid_out(workshop)
        owner = tree.Owner(self._occasion.uid, self._occasion.gid)
        sources = [rendering.Source(name, self._source(name)) for name in names]
        for name, content in zip(names, rendering.render(sources, self._variables(workshop)), strict=True):
            _replace(self._layout / "made" / name, content, 0o600, owner)
        document = self._document(
            image=self._place.compiler,
            words=["timeout", "--kill-after=5", str(COMPILE_SECONDS), "sh", "-c", _COMPILE, "sh", *names],
            environment={},
            mounts=[self._mount("made", f"{SITE}/made")],
            network=False,
        ) | {"WorkingDir": f"{SITE}/made"}
        ran = self._ran(document, COMPILE_SECONDS)
        if ran.status != 0:
            raise ActionFailed(f"{', '.join(names)} could not be compiled: {ran.output.strip()[-1000:]}")
        for name in names:
            program = _regular_file(self._layout / "made" / f"{name}.x", _LARGEST_PROGRAM)
            _replace(home / f"{name}.x", program, 0o755, owner)
            for left in (name, f"{name}.x", f"{name}.x.c"):
                (self._layout / "made" / left).unlink(missing_ok=True)
        return ran.output

    def lend(self, workshop: Workshop) -> Workshop:
        """The workshop as a copy that scripts may change before it is rendered."""
        self._ensure_laid_out(workshop)
        copy = self._layout / "made" / workshop.name
        _copy(workshop.path, copy, tree.Owner(self._occasion.uid, self._occasion.gid))
        return dataclasses.replace(workshop, path=copy)

    def clear(self) -> None:
        """Neither container nor folder is left."""
        if self._laid_out:
            self._containers.ensure_absent(self._name)
            trash.remove(self._place.layouts, self._layout.name)
            self._laid_out = False

    # --- What a container gets ---

    def _ensure_laid_out(self, workshop: Workshop | None) -> None:
        if self._laid_out:
            return
        # Before the folder that is mounted there goes.
        self._containers.ensure_absent(self._name)
        trash.remove(self._place.layouts, self._layout.name)
        ours = tree.Owner(os.getuid(), os.getgid())
        site, made = self._layout / "site", self._layout / "made"
        self._layout.mkdir(mode=0o700)
        self._laid_out = True
        tree.make_directory(str(site), 0o755, ours)
        tree.make_directory(str(made), 0o700, tree.Owner(self._occasion.uid, self._occasion.gid))
        for folder in (
            "made",
            "notebooks",
            "scripts",
            "private",
            "private/scripts",
            "private/ansible",
            "secrets",
        ):
            tree.make_directory(str(site / folder), 0o755, ours)
        private = self._workshops.private
        copied = [(self._place.public, "scripts")]
        if private:
            copied += [(private.resolve() / name, f"private/{name}") for name in ("scripts", "ansible")]
        if workshop:
            copied.append((workshop.path, f"notebooks/{workshop.name}"))
        for source, name in copied:
            if source.is_dir():
                _copy(source, site / name, ours)
        for folder in (self._settings.WODGROUP, f"{self._settings.WODGROUP}/pass"):
            tree.make_directory(str(site / "private/ansible" / folder), 0o755, ours)
        self._expand_templates(site, workshop)
        self._write_secrets(site)
        metadata = workshop.metadata if workshop else _NO_METADATA
        exported = model.environment(self._settings, self._occasion, metadata)
        lines = [
            f"export {name}={shlex.quote(value)}\n" for name, value in exported.items() if name[:3] == "WOD"
        ]
        _replace(site / "wod.sh", "".join(lines).encode(), 0o444, ours)

    def _expand_templates(self, site: Path, workshop: Workshop | None) -> None:
        """`x.sh` of each `x.sh.j2`. One that is not for this occasion may need what we do not have: it stays away."""
        wanted = {model.file_name(kind, self._occasion.folder) for kind in model.KINDS}
        owner = tree.Owner(self._occasion.uid, self._occasion.gid)
        variables: dict[str, Any] | None = None
        for folder in ("scripts", "private/scripts"):
            for template in sorted((site / folder).glob("*.sh.j2")):
                variables = self._variables(workshop) if variables is None else variables
                name = template.name.removesuffix(".j2")
                try:
                    [content] = rendering.render(
                        [rendering.Source(template.name, template.read_bytes())], variables
                    )
                except ContentProblem:
                    if name in wanted:
                        raise
                    continue
                _replace(template.with_name(name), content, 0o500, owner)

    def _write_secrets(self, site: Path) -> None:
        """Each secret in a file of its own, and bash variables that are no environment (BASH_ENV)."""
        owner = tree.Owner(self._occasion.uid, self._occasion.gid)
        secrets = dict(self._occasion.secrets)
        for file in sorted(self._place.secrets.iterdir()) if self._place.secrets.is_dir() else []:
            secrets[file.name] = _regular_file(file, 2**20).decode(errors="replace")
        for name, value in secrets.items():
            _replace(site / "secrets" / name, value.encode(), 0o400, owner)
        vault_secret = site / "private/ansible/vault_secret"
        if vault_secret.is_file():
            secrets["vault_secret"] = vault_secret.read_text(errors="replace")
            _replace(vault_secret, secrets["vault_secret"].encode(), 0o400, owner)
        lines = [f"{name}=$(< {SITE}/secrets/{name})\n" for name in self._occasion.secrets]
        _replace(site / "secrets.sh", "".join(lines).encode(), 0o444, owner)
        self._secrets |= {line.strip() for value in secrets.values() for line in value.splitlines()}

    def _variables(self, workshop: Workshop | None) -> dict[str, Any]:
        """The variables that the delivery will have."""
        if workshop is None:
            return {}
        occasion = self._occasion
        found = self._workshops.variables().of(workshop.name, occasion.mode, occasion.seat)
        self._secrets |= set(vault.secrets_in(found))
        return delivery.values(workshop, occasion.mode, occasion.seat, found)

    def _source(self, name: str) -> bytes:
        """The text of a script to be compiled."""
        if not name or "/" in name or name.startswith((".", "-")):
            raise ContentProblem(f"compile names {name!r}: expected the name of a file among the scripts.")
        for folder in ("scripts", "private/scripts"):
            for file in (f"{name}.j2", name):
                path = self._layout / "site" / folder / file
                if path.is_file():
                    return path.read_bytes()
        raise ContentProblem(
            f"compile names {name}, which is in no folder of scripts.",
            hint="Put it into `scripts/` of the private repository, or into WODSCRIPTDIR.",
        )

    def _document(
        self,
        *,
        image: str,
        words: Sequence[str],
        environment: Mapping[str, str],
        mounts: Sequence[Mapping[str, Any]],
        network: bool,
    ) -> dict[str, Any]:
        """The container, as conf/gate/policy.yml wants it (document `script`)."""
        occasion, settings = self._occasion, self._settings
        memory = size_in_bytes(settings.WODSEATMEMORY)
        own = f"uid={occasion.uid},gid={occasion.gid}"
        return {
            "Image": image,
            "Hostname": f"script{occasion.seat}",
            "User": f"{occasion.uid}:{occasion.gid}",
            "Cmd": list(words),
            "Env": [f"{name}={value}" for name, value in environment.items()],
            "Labels": {"wod.project": self._place.project, "wod.script": str(occasion.seat)},
            "Healthcheck": {"Test": ["NONE"]},
            "HostConfig": {
                "NetworkMode": f"{self._place.project}_seats" if network else "none",
                "Mounts": list(mounts),
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges:true"],
                "CgroupnsMode": "private",
                "ReadonlyRootfs": True,
                "Tmpfs": {
                    "/tmp": "exec,nosuid,nodev,mode=1777,size=64m",  # noqa: S108 - in the container
                    "/run": f"nosuid,nodev,mode=0755,size=1m,{own}",
                    "/var/lib/extrausers": f"nosuid,nodev,mode=0755,size=64k,{own}",
                },
                "Memory": memory,
                "MemorySwap": memory,
                "CpuPeriod": 100_000,
                "CpuQuota": int(settings.WODSEATCPUS * 100_000),
                "CpuShares": 16,
                "PidsLimit": settings.WODSEATPIDS,
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
            },
        }

    def _mount(self, part: str, target: str, *, read_only: bool = False) -> dict[str, Any]:
        source = f"{self._place.state}/data/scripts/{self._layout.name}/{part}"
        return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}

    def _home(self, home: Path) -> dict[str, Any]:
        source = f"{self._place.state}/data/students/{home.relative_to(self._place.homes)}"
        target = f"{STUDENTS_DIRECTORY}/{user_name(self._occasion.seat)}"
        return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": False}

    def _ran(self, document: Mapping[str, Any], seconds: float) -> Ran:
        self._containers.start(self._name, document)
        begun = time.monotonic()
        status = self._containers.wait(self._name, seconds + _GRACE)
        # `timeout` ends with 124, or with 137 where its first signal did not suffice; so may others.
        late = time.monotonic() - begun >= seconds - 1 and status in (124, 137, None)
        output = self._shown(self._containers.output(self._name))
        self._containers.ensure_absent(self._name)
        return Ran(None if late else status, output)

    def _shown(self, output: str) -> str:
        """The end of an output without secrets and without what terminals would take for orders."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            if len(secret) >= _SHORTEST_SECRET:
                output = output.replace(secret, "(secret)")
        plain = "".join(c for c in output.replace("\r\n", "\n") if c in "\n\t" or c.isprintable())
        return plain[-MOST_OUTPUT:]


@dataclass(frozen=True)
class _Metadata:
    """Of a workshop that is no longer there."""

    range: None = None
    monoappliance: bool = False
    multiappliance: bool = False


_NO_METADATA = _Metadata()


def _is_there(folder: Path, file: str) -> bool:
    return (folder / file).is_file() or (folder / f"{file}.j2").is_file()


def _can_run(folder: Path, file: str) -> bool:
    """Templates are made executable when they are rendered."""
    return (folder / f"{file}.j2").is_file() or bool((folder / file).stat().st_mode & 0o111)


def _copy(source: Path, target: Path, owner: tree.Owner) -> None:
    """Copy a tree faithfully, readable by all who reach it."""
    tree.make_directory(str(target), 0o755, owner)
    for entry in tree.scan(source):
        path = str(target / entry.path)
        if entry.is_directory:
            tree.make_directory(path, 0o755, owner)
        elif entry.is_file:
            tree.copy_file(entry, path, 0o755 if entry.permissions & 0o111 else 0o644, owner)
        else:
            tree.make_link(path, entry.target, owner)


def _replace(path: Path, content: bytes, mode: int, owner: tree.Owner) -> None:
    """The file has that content, whatever had its name before."""
    path.unlink(missing_ok=True)
    tree.write_file(str(path), content, mode, owner)


def _regular_file(path: Path, most: int) -> bytes:
    """What a file holds that somebody else made. Raises ContentProblem if it is none, or too large."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_size <= most:
                return file.read(most)
    except OSError as error:
        raise ContentProblem(f"{path.name} cannot be read: {error.strerror}.") from None
    raise ContentProblem(f"{path.name} is no file, or larger than {most} bytes.")
