"""Scripts of the site around an action: run in their order, their output on the action."""

from pathlib import Path
from typing import Any

from wodctl.actions.phases import Phases
from wodctl.actions.site import Desk, Site
from wodctl.errors import ActionFailed, ContentProblem, Unavailable
from wodctl.model.order import Order
from wodctl.model.scripts import Occasion
from wodctl.model.seat import Seat, new_password, user_name

AT_CREATE = ("create", "pre-templating", "post-templating", "post-copy")
"""The kinds of scripts that a CREATE runs."""


def occasion_of(workshop: str, number: int, site: Site, password: str, kinds: tuple[str, ...]) -> Occasion:
    """What scripts of these kinds are told. The registration database is asked only if there are any.

    One that is away stops nothing: scripts find no `wid` and no `accessToken` then.
    """
    settings = site.settings
    plain = Occasion(number, settings.UIDBASE + number, settings.GIDBASE + number, workshop, password)
    if not site.registration or not any(site.scripts.named(kind, plain.folder) for kind in kinds):
        return plain
    try:
        row = site.registration.workshop(workshop) or {}
        token = site.registration.token()
    except Unavailable:
        return plain
    return Occasion(number, plain.uid, plain.gid, workshop, password, str(row.get("id", "")), token)


def run_scripts(kind: str, desk: Desk, workshop: Any, home: Path | None, site: Site, phase: Phases) -> None:
    """Run the scripts of that kind, each as a phase that shows its output.

    Raises ActionFailed for the first that fails or does not end, and then the others do not run.
    """
    for script in site.scripts.named(kind, desk.folder):
        with phase(script.name) as noted:
            ran = desk.run(script, workshop, home)
            if ran.output:
                noted["output"] = ran.output
            if ran.status is None:
                raise ActionFailed(
                    f"The {script.name} did not end within {site.settings.WODSCRIPTSECONDS} s and was stopped"
                    f"{_last_line(ran.output)}. WODSCRIPTSECONDS is the limit."
                )
            if ran.status != 0:
                raise ActionFailed(
                    f"The {script.name} failed with status {ran.status}{_last_line(ran.output)}."
                )


def run_scripts_at_the_end(order: Order, step: Any, seat: Seat, site: Site, phase: Phases) -> None:
    """The `cleanup` scripts for one who leaves, once, and the `reset` scripts of a RESET; none for a PURGE.

    Raises ActionFailed where one fails: the seat stays closed and keeps its home until another action comes.
    """
    workshop = seat.workshop or order.workshop
    leaves = bool(seat.workshop) and not step.ended_before
    kinds = ("cleanup",) * leaves + ("reset",) * (order.action == "RESET")
    if order.action == "PURGE" or workshop is None:
        return
    occasion = occasion_of(workshop, step.seat, site, new_password(), kinds)
    if any(site.scripts.named(kind, occasion.folder) for kind in kinds):
        with site.scripts.at(occasion) as desk:
            for kind in kinds:
                known = _known(site, workshop)
                run_scripts(kind, desk, known, site.homes.existing(user_name(step.seat)), site, phase)


def _known(site: Site, workshop: str) -> Any:
    try:
        return site.workshops.workshop(workshop)
    except ContentProblem:
        return None


def _last_line(output: str) -> str:
    lines = output.split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f": {last[-300:]}" if last else ""
