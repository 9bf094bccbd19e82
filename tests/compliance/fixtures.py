"""What all checks share; private checks of a site, too. `wodctl check` gives pytest an object of this."""

from collections.abc import Callable
from concurrent.futures import Future

import pytest

from tests.compliance.facts import Container, Facts, run
from tests.compliance.outsider import Outsider
from tests.compliance.probe import Probe

PROCMAILRC = "/etc/procmailrc"
"""Has a check of its own."""

Seen = Callable[[str], str]
"""Tells what came of an attempt."""


class Fixtures:
    """A plugin of pytest: the facts of one stack, and the fixtures that stand on them."""

    def __init__(self, facts: Facts, *, attacks: bool) -> None:
        self._facts = facts
        # What takes long is begun before the first check.
        services = [one for group in facts.groups if group.name in facts.services for one in group.containers]
        self._differences: dict[str, Future[list[str]]] = {
            one.name: facts.begin(changed_in, one) for one in services if one.inspected["State"]["Running"]
        }

        self._attackers = (Probe(facts), Outsider(facts)) if attacks and "hub" in facts.services else None

    @pytest.fixture(scope="session")
    def facts(self) -> Facts:
        """The stack as it is, and as it should be."""
        return self._facts

    @pytest.fixture(scope="session")
    def seen(self) -> Seen:
        """What came of each attempt."""
        if self._attackers is None:
            pytest.skip("this host has no seats")
        probe, outsider = self._attackers

        def tell(name: str) -> str:
            return outsider.seen[name].result() if name in outsider.seen else probe.seen.result()[name]

        return tell

    @pytest.fixture(scope="session")
    def changed_files(self) -> dict[str, list[str]]:
        """Files that differ from the image, by container."""
        return {name: found.result() for name, found in self._differences.items()}

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """A check that asks for `containers` is made once for each service, for all seats, all appliances, all jobs."""
        if "containers" in metafunc.fixturenames:
            metafunc.parametrize("containers", self._facts.groups, ids=str)


def changed_in(container: Container) -> list[str]:
    """Files of a container that are not as its image has them. Where something is mounted, folders were made for it."""
    mounted = {mount[2] for mount in container.mounts} | set(container.host.get("Tmpfs") or {})
    mounted |= {str(path) for target in mounted for path in _parents(target)}
    # A socket's folder may be a link to another.
    mounted |= {path.replace("/var/run/", "/run/") for path in mounted} | {"/run"}
    changes = (line.split(" ", 1)[1] for line in run("docker", "diff", container.name).splitlines())
    return [path for path in changes if path not in mounted and path != PROCMAILRC]


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:length]) for length in range(2, len(parts))]
