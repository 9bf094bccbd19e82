"""DELIVER: put a workshop into the home of a seat where somebody works."""

from pathlib import Path
from typing import Any

from wodctl.actions.phases import Phases
from wodctl.actions.site import Outcome, Site
from wodctl.errors import ActionFailed, ContentProblem
from wodctl.model.order import Order, Rejected
from wodctl.model.seat import BY_HAND, user_name


def deliver(order: Order, step: Any, site: Site, phase: Phases) -> Outcome:
    """Install the workshop for the seat, in place of its former copy and of what was changed in that.

    The rest of the home, the lease and the server stay as they are, and so does everything when the workshop
    cannot be delivered. Raises Rejected for that, with the reason, and for a seat that is not ready.
    """
    number = order.first
    seat = site.seats.seat(number)
    if seat is None or seat.state != "ready":
        raise Rejected(
            f"Seat {number} is {seat.state if seat else 'unknown'}: a workshop is delivered into the home of a seat "
            "that is ready. CREATE makes it so, and delivers."
        )
    uid, gid = site.settings.UIDBASE + number, site.settings.GIDBASE + number
    warnings: list[str] = []
    try:
        with phase("home"):
            workshop = site.workshops.workshop(str(order.workshop))

            def fill(home: Path) -> None:
                password = site.passwords.kept(number, seat.customer or BY_HAND)
                values: dict[str, object] = {"PASSSTU": password} if password else {}
                values |= site.appliances.values(number)
                mode = str(order.mode)
                warnings.extend(site.workshops.fill(home, workshop, mode, number, uid, gid, None, values))

            site.homes.replace(user_name(number), workshop.name, fill)
    except (ContentProblem, ActionFailed) as problem:
        # Not failed: that would close a seat where nothing has changed.
        raise Rejected(f"{problem.message} {problem.hint}".strip()) from None
    # For the order of leases it does not count: none begins or ends with it.
    return Outcome(" ".join(warnings) or None, touched=False)
