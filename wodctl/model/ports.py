"""Ports outside: which published port of which appliance has which block of this host's ports, one for each seat."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from wodctl.errors import ConfigProblem


@dataclass(frozen=True)
class Pool:
    """The site's pool: its ports, the length of a block, and ports that are somebody else's."""

    ports: range
    block: int
    taken: Collection[int] = ()


def allocate(
    wanted: Mapping[str, Collection[str]],
    former: Mapping[str, Mapping[str, int]],
    by_hand: Mapping[str, int],
    pool: Pool,
) -> dict[str, dict[str, int]]:
    """The first port of a block for every variable of every appliance.

    `former` blocks stay where they are, as long as they are in the pool and disjoint; `by_hand` are those that the site
    has set, as `HTTPPORT-WKSHP-Spark101`. Raises ConfigProblem when the pool is used up, or blocks by hand overlap.
    """
    found: dict[str, dict[str, int]] = {name: {} for name in wanted}
    blocks: list[range] = []
    names = [(name, variable) for name in sorted(wanted) for variable in wanted[name]]

    def take(name: str, variable: str, base: int) -> None:
        found[name][variable] = base
        blocks.append(range(base, base + pool.block))

    def is_free(base: int) -> bool:
        end = base + pool.block
        return not any(base < b.stop and b.start < end for b in blocks) and not any(
            base <= port < end for port in pool.taken
        )

    for name, variable in names:
        base = by_hand.get(f"{variable}-WKSHP-{name}")
        if base is not None:
            if not is_free(base) or not 1 <= base <= 65536 - pool.block:
                raise ConfigProblem(
                    f"{variable}-WKSHP-{name} is {base}: its {pool.block} ports, one for each seat, overlap others."
                )
            take(name, variable, base)
    for name, variable in names:
        base = former.get(name, {}).get(variable)
        in_pool = base is not None and base in pool.ports and base + pool.block - 1 in pool.ports
        if variable not in found[name] and base is not None and in_pool and is_free(base):
            take(name, variable, base)
    for name, variable in names:
        if variable in found[name]:
            continue
        candidates = range(pool.ports.start, pool.ports.stop - pool.block + 1)
        base = next((candidate for candidate in candidates if is_free(candidate)), None)
        if base is None:
            raise ConfigProblem(
                f"The pool of ports is used up: {name} needs {pool.block} for {variable}, one for each seat.",
                hint=f"Make WODPORTPOOL larger, set {variable}-WKSHP-{name}, or publish less: `web` needs no port.",
            )
        take(name, variable, base)
    return found
