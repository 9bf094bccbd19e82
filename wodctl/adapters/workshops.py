"""The site's workshops, and how one becomes a participant's: the notebooks loader with the site's values."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from notebooks_loader import delivery, skeleton
from notebooks_loader.catalogue import Catalogue, Workshop


class Workshops:
    """The workshops of a catalogue, delivered with the site's variables on top of its skeletons for homes."""

    def __init__(self, catalogue: Catalogue, variables: Mapping[str, Any], skeletons: Sequence[Path]) -> None:
        self._catalogue = catalogue
        self._variables = variables
        self._skeletons = skeletons

    def workshop(self, name: str) -> Workshop:
        """The workshop or challenge of that name. Raises ContentProblem if there is none."""
        return self._catalogue.workshop(name)

    def fill(self, home: Path, workshop: Workshop, mode: str, seat: int, uid: int, gid: int) -> None:
        """Put skeleton and workshop into a home that nobody lives in yet. Raises ContentProblem."""
        skeleton.install(home, uid, gid, self._skeletons)
        delivery.deliver(workshop, mode, seat, self._variables, home, uid, gid)
