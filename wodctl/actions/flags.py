"""What a workshop needs beside its notebooks: as the registration database says, else its own `wod.yml`."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wodctl.actions.site import Site
from wodctl.errors import ContentProblem, Unavailable

log = logging.getLogger("wod")


@dataclass(frozen=True)
class Flags:
    """`reset`: seats are kept after their CLEANUP until a RESET. `ldap`: the seat's password opens its entry in
    the directory too. `varpass`: the participant's notebooks show him his password."""

    reset: bool = False
    ldap: bool = False
    varpass: bool = False


def flags_of(name: str | None, site: Site) -> Flags:
    """The flags of that workshop; none are set where nobody knows it. `varpass` is set by its content as well."""
    if name is None:
        return Flags()
    try:
        workshop = site.workshops.workshop(name)
    except ContentProblem:
        workshop = None
    row: Mapping[str, Any] | None = None
    if site.registration:
        try:
            row = site.registration.workshop(name)
        except Unavailable as error:
            log.info("%s The workshop's own file is asked.", error.message)
    shown = workshop is not None and site.workshops.shows_password(workshop)
    if row is not None:
        return Flags(_is_set(row, "reset"), _is_set(row, "ldap"), shown or _is_set(row, "varpass"))
    if workshop is None:
        return Flags()
    own = workshop.metadata
    return Flags(bool(own.reset), bool(own.ldap), shown or bool(own.varpass))


def _is_set(row: Mapping[str, Any], flag: str) -> bool:
    return str(row.get(flag)).lower() == "true"
