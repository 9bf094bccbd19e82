"""What every command knows of the site it works for."""

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from wodctl.adapters import configuration
from wodctl.adapters.builder import Builder
from wodctl.adapters.engine import Engine
from wodctl.adapters.state import VAULT_PASSWORD
from wodctl.adapters.workshops import Workshops
from wodctl.errors import UsageProblem
from wodctl.model.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
"""The checkout: images, compose files and defaults are below it."""


class Site:
    """A state directory, a project name, and what follows from them; read when first asked for."""

    def __init__(self, state: Path, project: str) -> None:
        self.root = ROOT
        self.state = state
        self.project = project
        self.options: dict[str, Any] = {}

    @cached_property
    def _configuration(self) -> tuple[Settings, dict[str, str]]:
        return configuration.load(self.root, self.state, self._environment, self.options)

    @property
    def _environment(self) -> Mapping[str, str]:
        return os.environ

    @property
    def settings(self) -> Settings:
        """Effective settings. Raises ConfigProblem."""
        return self._configuration[0]

    def forget_settings(self) -> None:
        """Read the settings anew when they are next asked for."""
        self.__dict__.pop("_configuration", None)

    @property
    def workshops(self) -> Workshops:
        """The workshops of this site, as the worker delivers them."""
        settings = self.settings
        loader = self.root / "notebooks-loader"
        return Workshops(
            settings,
            public=Path(settings.WODNOBO) if settings.WODNOBO else loader / "workshops",
            private=Path(settings.WODPRIVDIR) if settings.WODPRIVDIR else None,
            skeleton=loader / "skel",
            passwords=[self.state / VAULT_PASSWORD],
        )

    @property
    def origins(self) -> dict[str, str]:
        """Where each setting comes from."""
        return self._configuration[1]

    @cached_property
    def engine(self) -> Engine:
        """The Docker Engine, asked and found to answer. Raises EngineProblem."""
        engine = Engine(self.project)
        engine.ensure_answers()
        return engine

    @cached_property
    def builder(self) -> Builder:
        """What builds the images of this site."""
        return Builder(self.root, self.state, self.settings)

    @property
    def url(self) -> str:
        """The address that participants open, without a path."""
        return self.settings.outside_url


def default_state() -> Path:
    """/var/lib/wod for root, else below the user's own state directory."""
    if os.geteuid() == 0:
        return Path("/var/lib/wod")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "wod"


def state_directory(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Path:
    """The state directory as an absolute path without surprises for the programs that it is handed to."""
    state = Path(value).absolute() if value else default_state()
    if not all(part.replace("-", "").replace("_", "").replace(".", "").isalnum() for part in state.parts[1:]):
        raise UsageProblem(
            f"The state directory {str(state)!r} has characters that Compose and the engine read otherwise.",
            hint="Use letters, digits, dots, dashes and underscores.",
        )
    if len(str(state)) > 80:
        raise UsageProblem(
            f"The state directory {state} is too long: sockets below it have addresses of at most 108 characters.",
            hint="Choose a path of at most 80 characters.",
        )
    return state


pass_site = click.make_pass_decorator(Site)
