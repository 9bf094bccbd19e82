"""Giving a seat the password that its operator wants, everywhere where it must be the same."""

from wodctl.actions.create import set_directory_password
from wodctl.actions.flags import flags_of
from wodctl.actions.site import Site
from wodctl.errors import ActionFailed
from wodctl.model import registration
from wodctl.model.seat import BY_HAND, new_password, password_hash


def give_password(number: int, password: str, site: Site) -> None:
    """The password opens the seat, and none before it does; directory and registration database know it.

    The notebooks of a participant who was shown his former password still show that one. Raises ActionFailed
    unless the seat is ready, and Unavailable if the directory is away: then the former password holds.
    """
    seat = site.seats.seat(number)
    if seat is None:
        raise ActionFailed(f"There is no seat {number}.", hint="`wodctl student list` shows the seats.")
    customer = seat.customer or BY_HAND
    in_directory = flags_of(seat.workshop, site).ldap
    if seat.state == "ready":
        if in_directory:
            set_directory_password(number, password, site)
        if site.registration or site.passwords.kept(number, customer):
            site.passwords.keep(number, customer, password)
        if site.seats.set_password_of(number, customer, password_hash(password)):
            if site.registration:
                told = registration.fresh_password(number, site.settings.WODBASESTDID)
                site.actions.owe_holder(number, customer, (told,))
            return
        if in_directory:  # the lease has ended meanwhile
            set_directory_password(number, new_password(), site)
    raise ActionFailed(
        f"Seat {number} is {seat.state}; only a seat that is ready has a password.",
        hint=f"`wodctl action submit CREATE {number} -w WKSHP-NAME --wait` makes it ready.",
    )
