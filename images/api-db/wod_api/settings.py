"""What the service is told by its site: settings without secrets, and secrets in files of their own."""

import json
import os
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

SETTINGS = Path(os.environ.get("WOD_SETTINGS", "/etc/wod/settings.json"))
SECRETS = Path(os.environ.get("WOD_SECRETS", "/run/secrets"))
DATABASE = "postgresql+psycopg://api@/api?host=/run/postgresql&connect_timeout=5"
"""The database knows us by our uid: there is no password."""

BACKEND = "host=/run/postgresql dbname=wod user=api connect_timeout=2"
"""The database of a backend on the same host, which shows us its seats and actions."""


@dataclass(frozen=True)
class Settings:
    """The site's settings, under the names of conf/defaults.yml."""

    values: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(name) from None

    @classmethod
    def load(cls) -> "Settings":
        """Read what `wodctl up` has rendered for us."""
        return cls(json.loads(SETTINGS.read_text()))

    @cached_property
    def hour(self) -> timedelta:
        """How long an hour of a session is: shorter where time is compressed for a trial."""
        return timedelta(seconds=self.WODAPIDBHOUR)

    @cached_property
    def patience(self) -> timedelta:
        """How long a backend may take to make a seat ready."""
        return timedelta(minutes=self.WODAPIDBPATIENCE)

    @cached_property
    def frontend(self) -> str:
        """The portal's address as participants know it, without a path."""
        return _origin(self.WODFEEXTPROTO, self.WODFEEXTFQDN, self.WODFEEXTPORT)

    @cached_property
    def origins(self) -> list[str]:
        """The sites whose pages may call us from a browser."""
        named = [
            _origin(
                self.values[f"WOD{part}PROTO"], self.values[f"WOD{part}FQDN"], self.values[f"WOD{part}PORT"]
            )
            for part in ("FE", "FEEXT", "APIDB", "APIDBEXT")
        ]
        return list(dict.fromkeys([*named, *self.WODAPIDBCORS]))


def secret(name: str) -> str:
    """A secret of this service. Raises OSError where there is none."""
    return (SECRETS / name).read_text().strip()


def _origin(proto: str, name: str, port: int) -> str:
    usual = {"http": 80, "https": 443}[proto]
    return f"{proto}://{name}" + ("" if port == usual else f":{port}")
