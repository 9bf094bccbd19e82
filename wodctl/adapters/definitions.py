"""Definitions of appliances on disk: kept in the state directory, and given to the services with the site's ports."""

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from wodctl.model.appliance import Definition, SeatPlan, read_definition, read_definitions
from wodctl.model.ports import Pool, allocate

PORTS, SUPERSEDED = "ports", "superseded"
"""Files with the first port of each block, and with images that are to go."""


_MOST_PORTS = 15
"""That one packet rule can name."""


class Definitions:
    """What was built and tried: `<state>/data/appliances`, rendered to `<state>/rendered/appliances`.

    `elsewhere` are those that live on other hosts, where every port has a number outside.
    """

    def __init__(self, state: Path, elsewhere: Collection[str] = ()) -> None:
        self._elsewhere = elsewhere
        self._kept = state / "data" / "appliances"
        self._rendered = state / "rendered" / "appliances"

    def get(self, name: str) -> Definition | None:
        """The current definition of that name. Raises DefinitionProblem if another version made it."""
        return read_definition(self._kept, name)

    def all(self) -> list[Definition]:
        """All current definitions, by name."""
        return read_definitions(self._kept)

    def keep(self, definition: Definition, former: Definition | None) -> None:
        """Make this the current definition of its name; images of the former one are to be removed."""
        self._kept.mkdir(parents=True, exist_ok=True)
        left = {*self.superseded(), *(former.images if former else ())} - set(definition.images)
        self.note_superseded(left)
        _write(self._kept / f"{definition.name}.json", definition.to_json())

    def superseded(self) -> list[str]:
        """Images of former definitions that were still needed when they were replaced."""
        file = self._kept / SUPERSEDED
        return file.read_text().split() if file.exists() else []

    def note_superseded(self, images: Collection[str]) -> None:
        """These are still there."""
        _write(self._kept / SUPERSEDED, "".join(f"{image}\n" for image in sorted(images)))

    def ports_with(
        self, more: Definition | None, by_hand: Mapping[str, int], pool: Pool
    ) -> dict[str, dict[str, int]]:
        """First ports for all that is defined, and for `more`. Raises ConfigProblem when the pool is used up."""
        file = self._kept / PORTS
        former = json.loads(file.read_text()) if file.exists() else {}
        wanted = {
            definition.name: definition.outside_names
            if definition.name in self._elsewhere
            else definition.published
            for definition in [*self.all(), *([more] if more else [])]
        }
        return allocate(wanted, former, by_hand, pool)

    def render(self, known: Mapping[str, Path], by_hand: Mapping[str, int], pool: Pool) -> None:
        """Give the services what is current, and the names of what could be built. Raises ConfigProblem."""
        bases = self.ports_with(None, by_hand, pool)
        self._kept.mkdir(parents=True, exist_ok=True)
        _write(self._kept / PORTS, json.dumps(bases, indent=1) + "\n")
        current = self.all()
        for definition in current:
            text = replace(definition, bases=bases[definition.name]).to_json()
            _write(self._rendered / f"{definition.name}.json", text)
        for path in self._rendered.glob("*.json"):
            if path.stem not in {definition.name for definition in current}:
                path.unlink()
        _write(self._rendered / "known", "".join(f"{name}\n" for name in known))

    def render_reach(self, hosts: Mapping[str, Collection[str]], plan: SeatPlan) -> None:
        """Tell the firewall what each seat reaches on other hosts: `hosts` are the appliances there, by address."""
        rendered = {definition.name: definition for definition in read_definitions(self._rendered)}
        lines = []
        for address, names in sorted(hosts.items()):
            found = [rendered[name].bases for name in names if name in rendered]
            # Port 0, which nobody has, where nothing lives there yet: the host is closed all the same.
            bases = sorted(base for one in found for base in one.values())
            for seat in range(plan.first_seat, plan.last_seat + 1):
                ports = [str(base + seat - plan.first_seat) for base in bases] or ["0"]
                for first in range(0, len(ports), _MOST_PORTS):
                    own = ",".join(ports[first : first + _MOST_PORTS])
                    lines.append(f"{plan.seat_address(seat)} {address} {own}\n")
        _write(self._rendered / "reach", "".join(lines))


def _write(path: Path, text: str) -> None:
    """Write a file at once or not at all, and only if it changes."""
    if path.exists() and path.read_text() == text:
        return
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text)
    fresh.chmod(0o644)
    fresh.replace(path)
