"""The site's workshops, and how one becomes a participant's: the notebooks loader with the site's values."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from notebooks_loader import delivery, skeleton, tree, validation, vault
from notebooks_loader.catalogue import Catalogue, Workshop
from notebooks_loader.kernels import lab_of
from notebooks_loader.variables import Sources
from wodctl.adapters.labs import Labs
from wodctl.errors import ContentProblem
from wodctl.model.settings import Settings

SECRETS = ".wod/secrets"
"""Where a participant's home has what only his own server may read."""


@dataclass(frozen=True)
class Workshops:
    """The workshops in a public folder and in the private repository, delivered with the site's variables.

    `skeleton` is what every home has; the private one comes on top. `passwords` are files that may hold the
    vault's password, beside the private repository's own. `labs` are what workshops are given in. `stand_ins`
    are values for a workshop that is delivered to nobody. Folders may
    be links that others switch: each is followed once for each call, so that a delivery sees one version from
    its beginning to its end.
    """

    settings: Settings
    public: Path
    private: Path | None = None
    skeleton: Path | None = None
    passwords: Sequence[Path] = ()
    labs: Labs = field(default_factory=Labs)
    stand_ins: Callable[[str], Mapping[str, Any]] = lambda workshop: {}

    def workshop(self, name: str) -> Workshop:
        """The workshop or challenge of that name. Raises ContentProblem if there is none."""
        return self.catalogue().workshop(name)

    def lab(self, workshop: Workshop) -> str:
        """The lab that the workshop is given in. Raises ContentProblem if it is not built, or if there is none."""
        name = lab_of(workshop, self.labs.kernels)
        if name not in self.labs.built:
            raise ContentProblem(
                f"{workshop.name} is given in the lab {name}, which is not built.",
                hint="`wodctl up` builds the labs that workshops need (WODLABS), and says why it cannot.",
            )
        return name

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

    def shows_password(self, workshop: Workshop) -> bool:
        """Whether the workshop's files show the participant the password of his seat (PASSSTU)."""
        return validation.shows_password(workshop)

    def furnish(self, home: Path, uid: int, gid: int) -> None:
        """Put the skeleton into a home that nobody lives in yet. Raises ContentProblem if it cannot be had."""
        private = self._private()
        skeletons = [self.skeleton, private / "skel" if private else None]
        skeleton.install(home, uid, gid, [folder for folder in skeletons if folder and folder.is_dir()])

    def give_secrets(self, home: Path, workshop: Workshop, mode: str, seat: int, uid: int, gid: int) -> None:
        """The secrets that the workshop asks for (`secrets` of its `wod.yml`), each in a file of the home.

        A value is the site's, from the variables, or made by chance for this lease. Raises ContentProblem for
        variables that cannot be had.
        """
        if not workshop.metadata.secrets:
            return
        variables = self.variables().of(workshop.name, mode, seat)
        owner = tree.Owner(uid, gid)
        folder = home / SECRETS
        for path in (folder.parent, folder):
            tree.make_directory(str(path), 0o700, owner)
        for name in workshop.metadata.secrets:
            value = str(variables[name]) if name in variables else secrets.token_urlsafe(24)
            tree.write_file(str(folder / name), value.encode(), 0o400, owner)

    def fill(
        self,
        home: Path,
        workshop: Workshop,
        mode: str,
        seat: int,
        uid: int,
        gid: int,
        made: Path | None = None,
        values: Mapping[str, object] = MappingProxyType({}),
    ) -> list[str]:
        """Put the workshop into a home that nobody lives in yet; returns what is odd about it.

        `made` is a folder with variables that scripts have made; `values` are variables of this very lease, which
        win over all others. Raises ContentProblem when a variable or a file cannot be had; the home is then of no use.
        """
        variables = {
            **self.stand_ins(workshop.name),
            **self.variables().of(workshop.name, mode, seat, made),
            **values,
        }
        return delivery.deliver(workshop, mode, seat, variables, home, uid, gid)

    def _private(self) -> Path | None:
        return self.private.resolve() if self.private and self.private.is_dir() else None
