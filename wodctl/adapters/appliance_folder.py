"""An appliance's folder, read: its manifest, and its compose.yml as Compose resolves it."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from wodctl.adapters import process
from wodctl.errors import ContentProblem
from wodctl.model.appliance import Definition
from wodctl.model.manifest import Manifest, check_compose, define, read_manifest

_VARIABLES = ("WOD_USER", "WOD_UID", "WOD_GID", "WOD_SEAT")


class ApplianceFolder:
    """A folder with appliance.yml and compose.yml; `base` is compose/appliance.yml, which every one extends.

    Raises ContentProblem, naming file and line, when it is made of a folder that is not as it must be.
    """

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder = folder
        self._base = base
        self.manifest: Manifest = read_manifest(self._text("appliance.yml"), f"{folder.name}/appliance.yml")
        self.services = check_compose(self._text("compose.yml"), f"{folder.name}/compose.yml")
        self._resolved = self._resolve()

    def definition(self, images: Mapping[str, str], allowed: Collection[str]) -> Definition:
        """The definition with these images by service, if the site allows what it asks for. Raises ContentProblem."""
        for service in self.services:
            if service not in images:
                raise ContentProblem(
                    f"{self.folder.name}/compose.yml has a service {service}, which has no {service}.Dockerfile."
                )
        services = [(self._resolved[service], images[service]) for service in self.services]
        return define(self.folder.name, self.manifest, services, self._text, allowed, where=self.folder.name)

    def _text(self, name: str) -> str:
        path = self.folder / name
        try:
            return path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise ContentProblem(
                f"{self.folder.name}/{name} cannot be read: {reason}.",
                hint="docs/appliances.md tells what a folder of an appliance holds.",
            ) from None

    def _resolve(self) -> dict[str, Mapping[str, object]]:
        environment = {name: f"@{name}@" for name in _VARIABLES} | {"WOD_APPLIANCE_BASE": str(self._base)}
        words = ["docker", "compose", "-p", "appliance", "-f", str(self.folder / "compose.yml")]
        try:
            text = process.run([*words, "config", "--format", "json"], environment=environment)
        except process.ProgramFailed as error:
            raise ContentProblem(
                f"{self.folder.name}/compose.yml is not as Compose wants it: {error.output.strip()[-400:]}"
            ) from None
        return dict(json.loads(text)["services"])
