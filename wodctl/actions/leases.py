"""Leases that are over, and seats that are stuck: ordered here, carried out like any other order."""

import logging

from wodctl.actions.site import Site

PATIENCE_MINUTES = 10
"""How long a seat may be neither ready nor free before it is cleaned; portals give up at the same time."""

log = logging.getLogger("wod")


def end_leases(site: Site) -> None:
    """Order the end of each lease that is over and has no such order yet. Raises Unavailable."""
    for number in site.actions.end_leases(PATIENCE_MINUTES):
        log.info("action %d: ordered by the end of a lease, or for a seat that is stuck", number)
