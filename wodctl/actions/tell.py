"""Telling the registration database what it is owed, in order."""

import logging

from wodctl.actions.site import Site
from wodctl.errors import ActionFailed, Unavailable
from wodctl.model.registration import Owed, Update
from wodctl.model.seat import new_password, password_hash

log = logging.getLogger("wod")


def tell(site: Site) -> None:
    """Deliver all updates that are owed, the oldest first; without a registration database, none.

    One that is refused for what it says stays with its action as refused, and the next has its turn. Raises
    Unavailable, with the rest still owed, where another attempt may succeed.
    """
    while site.registration and (owed := site.actions.next_owed()):
        try:
            site.registration.deliver(_complete(owed, site))
        except Unavailable as error:
            site.actions.note_owed(owed.id, error.message, refused=False)
            log.info("action %d: %s is still to be told: %s", owed.action, _names(owed), error.message)
            raise
        except ActionFailed as error:
            site.actions.note_owed(owed.id, error.message, refused=True)
            log.warning("action %d: %s could not be told: %s", owed.action, _names(owed), error.message)
        else:
            site.actions.settle_owed(owed.id)


def _complete(owed: Owed, site: Site) -> Update:
    """The update with a password where one belongs, which opens the seat from now on.

    It is made here, so that none is stored while the registration database is away, but for those that are
    in the participant's files or in the directory as well: they are kept. It opens a seat only if that is
    still ready for the customer of the action; else it is one that opens nothing.
    """
    body = dict(owed.body)
    if "password" in body:
        body["password"] = new_password()
        if owed.seat is not None:
            password = site.passwords.kept(owed.seat, owed.customer) or new_password()
            if site.seats.set_password_of(owed.seat, owed.customer, password_hash(password)):
                body["password"] = password
    return Update(owed.kind, owed.key, body)


def _names(owed: Owed) -> str:
    return f"{owed.kind} {owed.key} {', '.join(owed.body)}"
