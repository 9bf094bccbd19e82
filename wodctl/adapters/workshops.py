"""The site's workshops, and how one becomes a participant's: the notebooks loader with the site's values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from notebooks_loader import delivery, skeleton, vault
from notebooks_loader.catalogue import Catalogue, Workshop
from notebooks_loader.variables import Sources
from wodctl.model.settings import Settings


@dataclass(frozen=True)
class Workshops:
    """The workshops in a public folder and in the private repository, delivered with the site's variables.

    `skeleton` is what every home has; the private one comes on top. `passwords` are files that may hold the
    vault's password, beside the private repository's own. Folders may be links that others switch: each is
    followed once for each call, so that a delivery sees one version from its beginning to its end.
    """

    settings: Settings
    public: Path
    private: Path | None = None
    skeleton: Path | None = None
    passwords: Sequence[Path] = ()

    def workshop(self, name: str) -> Workshop:
        """The workshop or challenge of that name. Raises ContentProblem if there is none."""
        return self.catalogue().workshop(name)

    def catalogue(self) -> Catalogue:
        """The workshops as they are now."""
        private = self._private()
        return Catalogue(self.public.resolve(), private / "notebooks" if private else None)

    def variables(self) -> Sources:
        """Where the variables of deliveries come from. Raises ContentProblem if the password cannot be read."""
        private = self._private()
        passwords = [*self.passwords, *([private / "ansible" / "vault_secret"] if private else [])]
        return Sources(
            site=self.settings.variables,
            group=self.settings.WODGROUP,
            public=self.public.resolve(),
            private=private,
            password=vault.password_from(passwords),
        )

    def fill(
        self,
        home: Path,
        workshop: Workshop,
        mode: str,
        seat: int,
        uid: int,
        gid: int,
        values: Mapping[str, object] = MappingProxyType({}),
    ) -> list[str]:
        """Put skeleton and workshop into a home that nobody lives in yet; returns what is odd about them.

        `values` are variables of this very lease, which win over all others.

        Raises ContentProblem when a variable, a file or the skeleton cannot be had; the home is then of no use.
        """
        variables = self.variables().of(workshop.name, mode, seat) | dict(values)
        private = self._private()
        skeletons = [self.skeleton, private / "skel" if private else None]
        skeleton.install(home, uid, gid, [folder for folder in skeletons if folder and folder.is_dir()])
        return delivery.deliver(workshop, mode, seat, variables, home, uid, gid)

    def deliver(self, home: Path, workshop: Workshop, mode: str, seat: int, uid: int, gid: int) -> list[str]:
        """Put the workshop alone into a folder that nobody else can write to; as `fill`."""
        variables = self.variables().of(workshop.name, mode, seat)
        return delivery.deliver(workshop, mode, seat, variables, home, uid, gid)

    def _private(self) -> Path | None:
        return self.private.resolve() if self.private and self.private.is_dir() else None
