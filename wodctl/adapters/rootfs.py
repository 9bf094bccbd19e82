"""What the image `base` is made of: Debian's image where a registry answers, else Debian packages."""

import hashlib
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

from wodctl.adapters import process
from wodctl.adapters.state import StateDirectory
from wodctl.errors import EngineProblem
from wodctl.model.settings import Settings

SUITE = "trixie"
DEBIAN_IMAGE = "debian:trixie-slim"
PACKAGES = "packages"
"""Stands for a tree that mmdebstrap makes of Debian packages."""

REGISTRY_PATIENCE = 15
"""Seconds that a registry has to answer."""

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# The mirror of a site must not stay in the tree; Debian's own, which mmdebstrap takes by default, may.
_FORGET_THE_MIRROR = '--customize-hook=rm -f "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*'


class Rootfs:
    """The root file system below every image, and the Debian mirror that all of them install from."""

    def __init__(self, root: Path, state: Path, settings: Settings) -> None:
        self._folder = state / "build"
        self._excludes = root / "images" / "base" / "dpkg.cfg"
        self._settings = settings
        self._decisions = StateDirectory(state, root)

    def known_kind(self) -> str | None:
        """The image that `base` starts from, or PACKAGES; None if that was not found out yet."""
        return self._settings.WODBASEIMAGE or self._decisions.remembered("rootfs")

    def kind(self) -> str:
        """As `known_kind`, but asks the registry if need be, and remembers the answer with the state."""
        known = self.known_kind()
        if known:
            return known
        kind = DEBIAN_IMAGE if not self._is_made() and _registry_has(DEBIAN_IMAGE) else PACKAGES
        self._folder.mkdir(parents=True, exist_ok=True)
        self._decisions.remember("rootfs", kind)
        return kind

    def ensure_image(self, progress: Callable[[str], None]) -> str:
        """The image to build `base` from, made of packages where it must be. Raises EngineProblem."""
        kind = self.kind()
        if kind != PACKAGES:
            return kind
        if not self._is_made():
            progress("rootfs: no registry answers, so it is made of Debian packages")
            self._make()
        return self._image

    def write_sources(self) -> Path | None:
        """Write the site's Debian mirrors as apt reads them; None where they are not known.

        The file may hold a password: it is ours alone, and a secret of the build.
        """
        mirrors = self._settings.WODDEBIANMIRROR.split() or _mirrors_of_this_host()
        if not mirrors:
            return None
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / "debian.sources"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            for uri, suites in zip(mirrors, (f"{SUITE} {SUITE}-updates", f"{SUITE}-security"), strict=False):
                file.write(
                    f"Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\nSigned-By: {KEYRING}\n\n"
                )
        return path

    @property
    def _image(self) -> str:
        recipe = self._excludes.read_bytes() + SUITE.encode()
        return f"wod/rootfs:{hashlib.sha256(recipe).hexdigest()[:12]}"

    def _is_made(self) -> bool:
        return bool(process.run(["docker", "image", "ls", "--quiet", self._image]).strip())

    def _make(self) -> None:
        if not shutil.which("mmdebstrap"):
            raise EngineProblem(
                "No container registry answers, and mmdebstrap, which makes a base image of Debian packages "
                "instead, is not installed.",
                hint="On Debian and Ubuntu `apt-get install mmdebstrap debian-archive-keyring` installs it; "
                "or name an image that this host can pull in WODBASEIMAGE.",
            )
        sources = self.write_sources()
        tree = self._folder / "rootfs.tar"
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--dpkgopt={self._excludes}"]
        try:
            if sources:
                process.run([*command, _FORGET_THE_MIRROR, SUITE, tree, sources])
            else:
                process.run([*command, SUITE, tree])
            process.run(["docker", "import", tree, self._image])
        except process.ProgramFailed as error:
            last = "\n".join(error.output.strip().splitlines()[-12:])
            raise EngineProblem(
                f"The base image could not be made of Debian packages.\n{last}",
                hint="WODDEBIANMIRROR names another mirror, WODBASEIMAGE an image to start from instead.",
            ) from None
        finally:
            tree.unlink(missing_ok=True)


def _registry_has(image: str) -> bool:
    """Whether a registry answers in time, and the engine too can fetch the image from it."""
    try:
        process.run(["docker", "buildx", "imagetools", "inspect", image], timeout=REGISTRY_PATIENCE)
        process.run(["docker", "pull", "--quiet", image])
    except EngineProblem:
        return False
    return True


def _mirrors_of_this_host() -> list[str]:
    """URIs of the Debian archive and its security archive as a Debian host has them; empty on any other."""
    try:
        if platform.freedesktop_os_release()["ID"] != "debian":
            return []
        # Before its first update apt lists nothing but without release info.
        targets = _list_mirrors() or _list_mirrors("--no-release-info")
    except (OSError, EngineProblem):
        return []
    found: dict[str, str] = {}
    for suite, uri, origin in targets:
        # Without release info the origin is unknown and stays a placeholder.
        if origin in ("Debian", "$(ORIGIN)"):
            found.setdefault("security" if suite.endswith("-security") else "main", _first_mirror(uri))
    return [found[archive] for archive in ("main", "security") if archive in found] if "main" in found else []


def _list_mirrors(*options: str) -> list[list[str]]:
    """Release, URI and origin of each source of packages that apt knows."""
    form = "$(RELEASE) $(REPO_URI) $(ORIGIN)"
    conditions = ["Created-By: Packages", "Component: main"]
    listed = process.run(["apt-get", "indextargets", *options, "--format", form, *conditions])
    return [line.split(" ", 2) for line in listed.splitlines()]


def _first_mirror(uri: str) -> str:
    """The URI, or the first one of the list that it names: `mirror+file:` means nothing in a container."""
    if not uri.startswith("mirror+file:"):
        return uri
    return Path(uri.removeprefix("mirror+file:").rstrip("/")).read_text().split()[0]
