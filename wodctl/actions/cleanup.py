"""CLEANUP: take a seat back at the end of its lease."""

from wodctl.actions.phases import Phases
from wodctl.actions.site import Site
from wodctl.model.order import Order
from wodctl.model.seat import Seat, user_name


def cleanup(order: Order, site: Site, phase: Phases) -> str | None:
    """Take the seat back: nobody can log in any more, server and sessions are gone, the home is removed.

    A CLEANUP that comes late, when the seat is lent to somebody else, leaves him in peace. An unknown
    workshop is no reason to leave a seat open. Returns what there is to say beside "done". Raises
    ActionFailed or Unavailable.
    """
    number = order.first
    seat = site.seats.seat(number) or Seat(number, "free")
    if seat.belongs_to_another(order.customer):
        return (
            f"Seat {number} is customer {seat.customer}'s now, not {order.customer}'s; nothing was touched."
        )
    with phase("claim"):
        site.seats.set_cleaning(number)
    with phase("close"):
        take_back(number, site)
    site.seats.set_free(number)
    return None


def take_back(number: int, site: Site) -> None:
    """End what the former lease left: the participant's server, his login sessions, his home."""
    user = user_name(number)
    site.hub.ensure_absent(user)
    site.homes.ensure_absent(user)
