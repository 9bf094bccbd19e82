"""Backends that a registration API serves: their names, and which of its seats are theirs."""

from dataclasses import dataclass

from wodctl.errors import ConfigProblem
from wodctl.model.settings import Settings


@dataclass(frozen=True)
class Backend:
    """A backend as participants know it; its seats `first` to `last` are the students `base` + n."""

    name: str
    port: int
    proto: str
    base: int
    first: int
    last: int


def backends(settings: Settings) -> list[Backend]:
    """The backends of WODBACKENDS or, without any, this host's own.

    Raises ConfigProblem when one is named twice, or when two would share a number of a student.
    """
    found = [_backend(text, place, settings) for place, text in enumerate(settings.WODBACKENDS)]
    if not found:
        found = [Backend(settings.WODBEEXTFQDN, settings.WODBEEXTPORT, settings.WODBEEXTPROTO,
                         settings.WODBASESTDID, settings.WODUSERMIN, settings.WODUSERMAX)]  # fmt: skip
    for place, one in enumerate(found):
        for other in found[:place]:
            _ensure_apart(other, one)
    return found


def _backend(text: str, place: int, settings: Settings) -> Backend:
    name, port, proto, base, seats = (*text.split(":"), "", "", "", "")[:5]
    return Backend(
        name=name,
        port=int(port or settings.WODBEEXTPORT),
        proto=proto or settings.WODBEEXTPROTO,
        base=int(base) if base else settings.WODUSERMAX * place,
        first=settings.WODUSERMIN,
        last=int(seats) if seats else settings.WODUSERMAX,
    )


def _ensure_apart(one: Backend, other: Backend) -> None:
    if one.name == other.name:
        raise ConfigProblem(f"WODBACKENDS names {one.name} twice.", hint="Name each backend once.")
    if one.base + one.first <= other.base + other.last and other.base + other.first <= one.base + one.last:
        raise ConfigProblem(
            f"WODBACKENDS: seats of {one.name} ({one.base + one.first} to {one.base + one.last}) and of {other.name} "
            f"({other.base + other.first} to {other.base + other.last}) would be the same students.",
            hint="Give them BASE numbers further apart: HOST:PORT:PROTO:BASE:SEATS.",
        )
