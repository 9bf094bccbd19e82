"""The images of the stack: what goes into each, which are missing, and how they are built.

images/docker-bake.hcl says how. This module gives every image a tag made of its content, so that an unchanged
image is never built again and a changed one never goes by an old name.
"""

import fnmatch
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from wodctl.adapters import process
from wodctl.adapters.engine import inspect_containers
from wodctl.adapters.labs import PLAIN, Lab, labs
from wodctl.adapters.rootfs import Rootfs
from wodctl.errors import EngineProblem
from wodctl.model.settings import Settings

CA_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine, macOS
)

_BLOCK = re.compile(r'^(?:target|group) "([\w-]+)" \{\n(.*?)^\}', re.MULTILINE | re.DOTALL)
_TAGGED_BY_US = re.compile(r"\bwod/[\w./-]+:[0-9a-f]{12}\b")

# Lines of BuildKit's plain progress: `#7 [hub build 2/5] RUN …`, `#7 0.512 some output`.
_STEP = re.compile(r"#(\d+) \[([\w-]+)(?: [^\]]*?)??(?: ?(\d+/\d+))?\] (.*)")
_OUTPUT = re.compile(r"#(\d+) (.*)")
_FAILED_TARGET = re.compile(r"ERROR: target ([\w-]+): failed to solve")


def _to_standard_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Builder:
    """Knows the images below `root` and builds them with the BuildKit of the engine."""

    def __init__(self, root: Path, state: Path, settings: Settings) -> None:
        self.root = root
        self._folder = state / "build"
        self._settings = settings
        self._rootfs = Rootfs(root, state, settings)
        self._bake_file = root / "images" / "docker-bake.hcl"
        self.labs = labs(root, Path(settings.WODPRIVDIR) if settings.WODPRIVDIR else None)
        """The labs by their names; the name of a lab's image is its `image`."""

    def images(self) -> list[str]:
        """The names of the stack's images, parents first: the bake file's group `default`."""
        return _words_of(r"targets *= *\[(.*?)\]", self._blocks()["default"])

    def workshop_labs(self) -> list[str]:
        """The names of the images of workshops' labs, `labs/jvm` and the like."""
        return [lab.image for lab in self.labs.values() if lab.name != PLAIN]

    def tag(self, name: str) -> str:
        """Repository and tag of an image as it would be built now, such as `wod/hub:0f3a91…`.

        Finds out what the base is made of if that is not known yet. Raises EngineProblem for an image that
        there is not, or whose Dockerfile names a file that there is not.
        """
        return f"wod/{name}:{self._digest(_bake_name(name), self._rootfs.kind())}"

    def appliance_images(self, folder: Path) -> dict[str, str]:
        """Image by service of an appliance's folder, as it would be built now: `appliance`, and its companions.

        Raises EngineProblem for a Dockerfile that is not there or names a file that is not.
        """
        name = folder.name.lower()
        kind = self._rootfs.kind()
        return {
            service: f"wod/appliance/{target.removeprefix('appliance-of-')}:{self._digest(target, kind)}"
            for service, target in self._services(folder, name).items()
        }

    def build_appliance(self, folder: Path, progress: Callable[[str], None] = _to_standard_error) -> None:
        """Build the images of an appliance's folder, and what they stand on. Raises EngineProblem."""
        self._folder.mkdir(parents=True, exist_ok=True)
        rootfs = self._rootfs.ensure_image(progress)
        targets = list(self._services(folder, folder.name.lower()).values())
        above = {name for target in targets for name in self._parents(target)}
        self._bake(targets, self._tags([*targets, *above]) | self._site_variables(rootfs), progress)
        self._remove_superseded({self.tag(name) for name in above})

    def missing(self) -> list[str]:
        """The images, labs too, that the engine does not have as they would be built now; asks the engine once."""
        names = [*self.images(), *self.workshop_labs()]
        kind = self._rootfs.known_kind()
        if kind is None:
            return names
        present = _present()
        return [name for name in names if f"wod/{name}:{self._digest(_bake_name(name), kind)}" not in present]

    def build(self, names: Sequence[str], progress: Callable[[str], None] = _to_standard_error) -> None:
        """Build these images, and remove former ones of the same names that no container needs.

        `progress` is told of each step. Raises EngineProblem with the image that failed and its last lines;
        what was built before that stays and is not built again.
        """
        if not names:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        rootfs = self._rootfs.ensure_image(progress)
        # Parents are built along, so they get their names too.
        targets = map(_bake_name, {*self.images(), *self.workshop_labs(), *names, "toolchain"})
        tags = {name: self.tag(name) for name in {*self.images(), *self.workshop_labs(), *names, "toolchain"}}
        self._bake(
            list(map(_bake_name, names)), self._tags(list(targets)) | self._site_variables(rootfs), progress
        )
        self._remove_superseded(set(tags.values()))

    # --- what goes into an image ---

    def _digest(self, target: str, rootfs_kind: str) -> str:
        """Twelve hexadecimal digits that stand for everything that can change what a target builds."""
        definition = self._definition(target)
        # A folder of its own is the context of an appliance, the checkout that of all others.
        context = self.root / (re.findall(r'context *= *"(.*?)"', definition) or ["."])[0]
        dockerfile = context / re.findall(r'dockerfile *= *"(.*?)"', definition)[0]
        digest = hashlib.sha256(definition.encode())
        for path in [dockerfile, *self._sources(dockerfile, context)]:
            digest.update(f"\0{path.relative_to(context)}\0".encode())
            if path.is_symlink():
                digest.update(os.readlink(path).encode())
            else:
                digest.update(b"x" if path.stat().st_mode & stat.S_IXUSR else b"-")
                digest.update(path.read_bytes())
        for parent in re.findall(r'"target:([\w-]+)"', definition):
            digest.update(self._digest(parent, rootfs_kind).encode())
        if "${ROOTFS}" in definition:
            digest.update(rootfs_kind.encode())
        return digest.hexdigest()[:12]

    def _definition(self, target: str) -> str:
        """What the bake file says of a target, with what it inherits."""
        blocks = self._blocks()
        block = blocks.get(target)
        if block is None:
            raise EngineProblem(
                f"There is no image {target!r}.", hint=f"There are: {', '.join(self.images())}."
            )
        inherited = _words_of(r"inherits *= *\[(.*?)\]", block)
        return block + "".join(self._definition(name) for name in inherited)

    def _blocks(self) -> dict[str, str]:
        return dict(_BLOCK.findall(self._bake_file.read_text() + self._generated_targets()))

    def _tags(self, targets: Sequence[str]) -> dict[str, str]:
        """The bake file's variables with the tags of these targets."""
        kind = self._rootfs.kind()
        return {f"TAG_{_variable(name)}": self._digest(name, kind) for name in targets}

    def _parents(self, target: str) -> set[str]:
        """The targets that this one stands on, directly or not."""
        direct = set(re.findall(r'"target:([\w-]+)"', self._definition(target)))
        return direct.union(*(self._parents(name) for name in direct))

    # --- appliances, which need no line in the bake file: a folder is all ---

    def appliance_folders(self) -> dict[str, Path]:
        """The folder of each appliance by its name; the private repository's own win."""
        roots = [self.root / "images" / "appliances"]
        if self._settings.WODPRIVREPO:
            roots.append(self._folder.parent / "data/repositories/private/current/appliances")
        elif self._settings.WODPRIVDIR:
            roots.append(Path(self._settings.WODPRIVDIR) / "appliances")
        found = {
            folder.name: folder
            for root in roots
            if root.is_dir()
            for folder in sorted(root.iterdir())
            if (folder / "appliance.yml").is_file()
        }
        return dict(sorted(found.items()))

    def _services(self, folder: Path, name: str) -> dict[str, str]:
        """The bake target of each service that has a Dockerfile in the folder."""
        others = sorted(path.name.removesuffix(".Dockerfile") for path in folder.glob("*.Dockerfile"))
        return {"appliance": f"appliance-of-{name}"} | {s: f"appliance-of-{name}-{s}" for s in others}

    def _appliance_targets(self) -> str:
        """Targets for what stands in folders of appliances, and in those that they share as parents."""
        shared = {
            path.name: path for path in sorted((self.root / "images").glob("appliance-*")) if path.is_dir()
        }
        names = {path.parent.name for path in (self.root / "images").glob("*/Dockerfile")} | {"toolchain"}
        parts = [
            _target(name, self.root, folder, "Dockerfile", f"wod/{name}", names)
            for name, folder in shared.items()
        ]
        for name, folder in self.appliance_folders().items():
            for service, target in self._services(folder, name.lower()).items():
                file = "Dockerfile" if service == "appliance" else f"{service}.Dockerfile"
                repository = f"wod/appliance/{target.removeprefix('appliance-of-')}"
                parts.append(_target(target, self.root, folder, file, repository, names))
        return "\n" + "\n".join(parts)

    # --- workshops' labs, likewise ---

    def _generated_targets(self) -> str:
        """A bake file with what needs no line in ours: appliances, labs, and an author's desk in each lab."""
        parts = [self._appliance_targets()]
        for lab in self.labs.values():
            if lab.name != PLAIN:
                target = _bake_name(lab.image)
                known = {"base", "lab", "toolchain"}
                parts.append(_target(target, self.root, lab.folder, "Dockerfile", f"wod/{lab.image}", known))
                parts.append(_desk_target(lab))
        return "\n".join(parts)

    def _sources(self, dockerfile: Path, context: Path) -> list[Path]:
        """The files of the context that a Dockerfile reads."""
        if not dockerfile.is_file():
            raise EngineProblem(
                f"{dockerfile} is not there.", hint="`git status` tells what the checkout misses."
            )
        ignore = context / ".dockerignore"
        ignored = ignore.read_text().split() if ignore.is_file() else []
        found: set[Path] = set()
        for pattern in _named_sources(dockerfile.read_text()):
            matches = list(context.glob(pattern)) if pattern else [context]
            if not matches:
                raise EngineProblem(
                    f"{dockerfile.relative_to(context)} needs {pattern}, which is not there.",
                    hint="`git status` tells what the checkout misses.",
                )
            for match in matches:
                found.update(_files_below(match, context, ignored))
        return sorted(found)

    # --- building ---

    def _site_variables(self, rootfs: str) -> dict[str, str]:
        """The bake file's variables that come from the site."""
        sources = self._rootfs.write_sources()
        values = {"ROOTFS": rootfs, "CA_BUNDLE": str(self.ca_bundle()), "APT_SOURCES": str(sources or "")}
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
            values[name] = os.environ.get(name) or os.environ.get(name.lower(), "")
        return values

    def ca_bundle(self) -> Path:
        """The file with the certificate authorities that the site trusts."""
        wanted = self._settings.WODCABUNDLE or os.environ.get("SSL_CERT_FILE", "")
        candidates = [wanted] if wanted else CA_BUNDLES
        for candidate in candidates:
            if Path(candidate).is_file():
                return Path(candidate)
        raise EngineProblem(
            f"No file with certificate authorities was found ({', '.join(candidates)}).",
            hint="Set WODCABUNDLE to the file that builds must trust.",
        )

    def _bake(self, names: Sequence[str], variables: dict[str, str], progress: Callable[[str], None]) -> None:
        # The builder of the engine itself: any other one does not see the images that the engine has.
        builder = process.run(["docker", "context", "show"]).strip()
        generated = self._folder / "folders.hcl"
        generated.write_text(self._generated_targets())
        words = [
            "docker",
            "buildx",
            "bake",
            "--builder",
            builder,
            "--progress=plain",
            "--file",
            str(self._bake_file),
            "--file",
            str(generated),
        ]
        # Newer versions of bake ask before they read files outside of the checkout, such as the CA bundle.
        environment = os.environ | variables | {"BUILDX_BAKE_ENTITLEMENTS_FS": "0"}
        report = _Report(progress)
        log = self._folder / "build.log"
        with (
            open(log, "w") as copy,
            subprocess.Popen(
                [*words, *names],
                cwd=self.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
            ) as bake,
        ):
            for line in bake.stdout or ():
                copy.write(line)
                report.take(line.rstrip("\n"))
        if bake.returncode != 0:
            raise _build_failed(report, names, log)

    def _remove_superseded(self, current: set[str]) -> None:
        """Remove what this state directory built before under the same names.

        Kept is what a container runs or is told to start, and what another checkout or stack on this host built.
        """
        present = _present()
        record = self._folder / "tags"
        built = set(record.read_text().split()) if record.exists() else set()
        replaced = {tag.partition(":")[0] for tag in current & present}
        former = {tag for tag in (built & present) - current if tag.partition(":")[0] in replaced}
        for container in inspect_containers() if former else []:
            # The environment of the hub and the gate names the image of the seats.
            named = " ".join([container["Config"]["Image"], *container["Config"]["Env"]])
            former -= set(_TAGGED_BY_US.findall(named))
        for tag in sorted(former):
            try:
                process.run(["docker", "image", "rm", tag])
            except process.ProgramFailed:
                continue  # in use since we looked, or already gone
        kept = ((built | current) & present) - former
        record.write_text("".join(f"{tag}\n" for tag in sorted(kept)))


class _Report:
    """Reads BuildKit's plain progress: tells of steps that do work, and keeps what explains a failure."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self._progress = progress
        self._titles: dict[str, str] = {}
        self._images: dict[str, str] = {}
        self._output: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=12))
        self._failed_step = ""
        self._failed_target = ""
        self._errors: list[str] = []

    @property
    def failed_image(self) -> str:
        """The image that could not be built; empty if the build does not say."""
        return self._failed_target or self._images.get(self._failed_step, "")

    @property
    def last_lines(self) -> list[str]:
        """What the failing step, and BuildKit of it, said last."""
        return [*self._output[self._failed_step], *self._errors]

    def take(self, line: str) -> None:
        """Read one line."""
        if step := _STEP.match(line):
            number, image, place, title = step.groups()
            self._images[number] = image
            words = " ".join(re.sub(r"--mount=\S+", "", title).split())
            self._titles.setdefault(number, f"{image} {place or ''}: {words}".replace(" :", ":"))
        elif output := _OUTPUT.match(line):
            self._take_output(*output.groups())
        elif line.startswith("ERROR:"):
            self._errors.append(line)
            if failed := _FAILED_TARGET.match(line):
                self._failed_target = failed[1]

    def _take_output(self, number: str, text: str) -> None:
        if text.startswith(("CACHED", "DONE", "CANCELED")):
            self._titles[number] = ""
            return
        if text.startswith("ERROR:"):
            self._failed_step = self._failed_step or number
            return
        self._output[number].append(re.sub(r"^\d+\.\d+ ", "", text))
        title = self._titles.get(number, "")
        if title and not title.endswith("exporting to image") and re.match(r"\d+\.\d+ |exporting", text):
            self._titles[number] = ""
            self._progress(title if len(title) <= 110 else title[:109] + "…")


def _build_failed(report: _Report, names: Sequence[str], log: Path) -> EngineProblem:
    last = "\n".join(report.last_lines)
    hint = f"The whole output is in {log}. What was built before is kept: run the same command again."
    if "no space left on device" in last.lower():
        hint = "The disk is full: `docker system df` tells of what, `docker builder prune` frees some of it."
    return EngineProblem(
        f"The image {(report.failed_image or ', '.join(names)).replace('appliance-of-', 'of the appliance ')} "
        f"could not be built.\n{last}",
        hint=hint,
    )


def _present() -> set[str]:
    """Repository and tag of every image of ours that the engine has."""
    form = "{{.Repository}}:{{.Tag}}"
    words = ["--filter=reference=wod/*", "--filter=reference=wod/*/*", f"--format={form}"]
    return set(process.run(["docker", "image", "ls", *words]).split())


def _bake_name(name: str) -> str:
    """The target of the bake files that builds an image."""
    return name.replace("/", "-")


def _desk_target(lab: Lab) -> str:
    """The desk of an author whose workshop is given in that lab."""
    name = f"desk-{lab.name}"
    return f"""variable "TAG_{_variable(name)}" {{ default = "latest" }}
target "{name}" {{
  inherits = ["desk"]
  contexts = {{ lab = "target:{_bake_name(lab.image)}" }}
  tags     = ["wod/desk/{lab.name}:${{TAG_{_variable(name)}}}"]
}}
"""


def _named_sources(dockerfile: str) -> Iterator[str]:
    """The paths below the build context that a Dockerfile reads; empty for the context itself."""
    lines = (line for line in dockerfile.splitlines() if not line.lstrip().startswith("#"))
    for instruction in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, rest = instruction.strip().partition(" ")
        paths: list[str] = []
        if word.upper() in ("COPY", "ADD") and "--from=" not in rest:
            operands = re.sub(r"--\S+", "", rest).strip()
            paths = (json.loads(operands) if operands.startswith("[") else operands.split())[:-1]
        elif word.upper() == "RUN":
            mounts = (
                dict(o.partition("=")[::2] for o in m.split(",")) for m in re.findall(r"--mount=(\S+)", rest)
            )
            bound = (mount for mount in mounts if mount.get("type") == "bind" and "from" not in mount)
            paths = [mount.get("source") or mount.get("src") or "." for mount in bound]
        yield from (path.removeprefix("./").strip("/") if path != "." else "" for path in paths)


def _files_below(path: Path, context: Path, ignored: list[str]) -> Iterator[Path]:
    if any(_is_ignored(path.relative_to(context), pattern) for pattern in ignored):
        return
    if path.is_dir() and not path.is_symlink():
        for child in path.iterdir():
            yield from _files_below(child, context, ignored)
    else:
        yield path


def _variable(target: str) -> str:
    """The part of a variable's name that stands for a target."""
    return target.upper().replace("-", "_")


def _target(name: str, root: Path, folder: Path, dockerfile: str, repository: str, known: set[str]) -> str:
    """A target of the bake file for a folder that is its own context; what it stands on is read from its Dockerfile."""
    text = (folder / dockerfile).read_text() if (folder / dockerfile).is_file() else ""
    used = re.findall(r"^FROM +(?:--\S+ +)*(\S+)|--from=(\S+)", text, re.MULTILINE | re.IGNORECASE)
    parents = sorted({one or other for one, other in used} & known)
    contexts = ", ".join(f'"{parent}" = "target:{parent}"' for parent in parents)
    return f"""variable "TAG_{_variable(name)}" {{ default = "latest" }}
target "{name}" {{
  inherits   = ["image"]
  context    = "{folder.relative_to(root) if folder.is_relative_to(root) else folder}"
  dockerfile = "{dockerfile}"
  contexts   = {{ {contexts} }}
  tags       = ["{repository}:${{TAG_{_variable(name)}}}"]
}}
"""


def _is_ignored(path: Path, pattern: str) -> bool:
    """Whether a line of .dockerignore, of the form `name` or `**/name`, keeps a path from the build."""
    name = pattern.removeprefix("**/")
    return fnmatch.fnmatch(path.name if name != pattern else str(path), name)


def _words_of(pattern: str, text: str) -> list[str]:
    """The quoted words within what the pattern's group matches."""
    match = re.search(pattern, text, re.DOTALL)
    return re.findall(r'"([\w-]+)"', match[1]) if match else []
