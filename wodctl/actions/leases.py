"""Leases that are over, and seats that are stuck: ordered here, carried out like any other order."""

import logging

from wodctl.actions.site import Site
from wodctl.errors import WodError

PATIENCE_MINUTES = 10
"""How long a seat may be neither ready nor free before it is cleaned; portals give up at the same time."""

log = logging.getLogger("wod")


def end_leases(site: Site) -> None:
    """Order the end of each lease that is over and has no such order yet. Raises Unavailable."""
    for number in site.actions.end_leases(PATIENCE_MINUTES):
        log.info("action %d: ordered by the end of a lease, or for a seat that is stuck", number)


def collect_orphans(site: Site) -> None:
    """Take away what seats that nobody has may have kept: for a moment when no action is under way."""
    for number in range(site.settings.WODUSERMIN, site.settings.WODUSERMAX + 1):
        seat = site.seats.seat(number)
        if seat is not None and seat.state != "free":
            continue
        try:
            site.appliances.ensure_absent(number)
        except WodError as error:
            log.info("the appliance of seat %d, which nobody has, is still there: %s", number, error.message)
            return
