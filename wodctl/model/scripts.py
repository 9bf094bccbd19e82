"""Scripts of a site around a seat: their names, and what they find when they run.

Names and environment are the original's (`create-WKSHP-X.sh`, `stdid`, `ws`, `WODRTARGET`, …), because sites have
such scripts in their private repositories. What is secret is in files, and never in the environment.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wodctl.model.seat import user_name
from wodctl.model.settings import STUDENTS_DIRECTORY, Settings

SITE = "/srv/wod"
"""Where a script finds what it may read, in its container."""

_OF_A_WORKSHOP = ("create", "post-copy", "cleanup", "reset")
_OF_ALL = ("pre-templating", "post-templating")
KINDS = _OF_A_WORKSHOP + _OF_ALL
"""All kinds of scripts that are run around a seat."""

_ADDRESS = re.compile(r"(\d{1,3}\.\d{1,3}\.\d{1,3})\.(\d{1,3})")


@dataclass(frozen=True)
class Occasion:
    """What a script is run for: a seat with its user, and the workshop as it was ordered.

    `password` is the participant's, or at the end of a lease one that nobody knows. `workshop_id` and `token` are
    of the registration database, empty for a site without one.
    """

    seat: int
    uid: int
    gid: int
    workshop: str
    password: str = ""
    workshop_id: str = ""
    token: str = ""

    @property
    def folder(self) -> str:
        """The workshop's folder, also for a challenge."""
        return "WKSHP-" + self.workshop.partition("-")[2]

    @property
    def mode(self) -> str:
        """`WKSHP`, or `CHLG` for a challenge."""
        return self.workshop.partition("-")[0]

    @property
    def secrets(self) -> dict[str, str]:
        """What only a file tells, by the names that scripts know."""
        return {"randompw": self.password, "accessToken": self.token}


def file_name(kind: str, folder: str) -> str:
    """The name of the script of that kind for a workshop: `create-WKSHP-X.sh`, `pre-templating.sh`."""
    if kind not in KINDS:
        raise ValueError(kind)
    return f"{kind}.sh" if kind in _OF_ALL else f"{kind}-{folder}.sh"


def environment(settings: Settings, occasion: Occasion, metadata: Any) -> dict[str, str]:
    """What a script has in its environment; nothing in it is secret."""
    values = {
        field.name: _text(getattr(settings, field.name))
        for field in dataclasses.fields(settings)
        if field.name.startswith("WOD") and not isinstance(getattr(settings, field.name), list | dict)
    }
    api, backend = (
        f"{proto}://{name}:{port}"
        for proto, name, port in (
            (settings.WODAPIDBEXTPROTO, settings.WODAPIDBEXTFQDN, settings.WODAPIDBEXTPORT),
            (settings.WODBEPROTO, settings.WODBEFQDN, settings.WODBEPORT),
        )
    )
    values |= {
        "USER": settings.WODUSER,
        "WODTYPE": "backend",
        "WODAPIDBURL": (f"{settings.WODAPIDBPROTO}://{settings.WODAPIDBFQDN}:{settings.WODAPIDBPORT}/api"),
        "WODAPIDBEXTURL": f"{api}/api",
        "WODBEAPIURL": backend,
        "WODSTUDDIR": STUDENTS_DIRECTORY,
        "WODNOBO": f"{SITE}/notebooks",
        "WODSCRIPTDIR": f"{SITE}/scripts",
        "WODPRIVDIR": f"{SITE}/private",
        "WODSCRIPTPRIVDIR": f"{SITE}/private/scripts",
        "WODANSIBLEPRIVDIR": f"{SITE}/private/ansible",
        "stdid": str(occasion.seat),
        "stddir": f"{STUDENTS_DIRECTORY}/{user_name(occasion.seat)}",
        "w": occasion.workshop,
        "ws": occasion.folder,
        "wid": occasion.workshop_id,
    }
    target = appliance_address(settings.site_variables, metadata, occasion)
    return values | ({"WODRTARGET": target} if target else {})


def appliance_address(variables: Mapping[str, Any], metadata: Any, occasion: Occasion) -> str | None:
    """Address of the host that a workshop's appliance is on: `IP-<workshop>`, one for all seats or counted up.

    A `wod.yml` that is silent leaves it to the address. None for a workshop without one, and where the address is
    missing or still to be filled in.
    """
    base = variables.get(f"IP-{occasion.workshop}", variables.get(f"IP-{occasion.folder}"))
    match = _ADDRESS.fullmatch(str(base))
    if not match:
        return None
    if metadata.multiappliance:
        first = metadata.range[0] if metadata.range else 1
        last = int(match[2]) + occasion.seat - first
        return f"{match[1]}.{last}" if 0 <= last <= 255 else None
    return None if metadata.monoappliance is False else match[0]


def may_use_network(settings: Settings, occasion: Occasion) -> bool:
    """Whether the site lets scripts of this workshop into the network."""
    return bool({"all", occasion.workshop, occasion.folder} & set(settings.WODSCRIPTNETWORK))


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
