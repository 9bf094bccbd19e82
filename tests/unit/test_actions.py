"""Actions on seats, with stand-ins for the hub, the homes and the register."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wodctl.actions.carry_out import ATTEMPTS, carry_out, fan_out
from wodctl.actions.site import Site
from wodctl.errors import ActionFailed, ContentProblem, Unavailable
from wodctl.model import seat as seats_module
from wodctl.model.seat import Seat

FREE = Seat(3, "free")


@dataclass
class Register:
    """Seat 3, one action on it, and all states that both went through."""

    seat_3: Seat = FREE
    action: Any = None
    states: list[str] = field(default_factory=list)
    hashed: str | None = None
    updates: Any = ()

    def seat(self, number: int) -> Seat | None:
        assert number in (3, 21)
        return self.seat_3 if number == 3 else None

    def _becomes(self, **changes: Any) -> None:
        self.seat_3 = replace(self.seat_3, **changes)
        self.states.append(self.seat_3.state)
        self.hashed = None

    def set_preparing(self, number: int, customer: int, workshop: str | None, mode: str | None) -> None:
        self._becomes(state="preparing", customer=customer, workshop=workshop, mode=mode, lease_until=None)

    def set_ready(self, number: int, password_hash: str, lease_until: datetime) -> None:
        self._becomes(state="ready", lease_until=lease_until)
        self.hashed = password_hash

    def set_cleaning(self, number: int) -> None:
        self._becomes(state="cleaning")

    def set_failed(self, number: int, reason: str) -> None:
        self._becomes(state="failed", reason=reason)

    def set_free(self, number: int) -> None:
        self._becomes(state="free", customer=None, workshop=None, mode=None, lease_until=None)

    def begin_step(self, seat: int) -> Any:
        if self.action.state not in ("queued", "running"):
            return None
        self.action.state = "running"
        self.action.attempts += 1
        return self.action

    begin_range = begin_step

    def note_phases(self, number: int, phases: Any) -> None:
        self.action.phases = [phase["name"] for phase in phases]

    def note_completion(self, number: int, percentage: int) -> None:
        self.action.completion = percentage

    def put_back_step(self, number: int, seat: int, reason: str) -> None:
        self.action.state, self.action.reason = "queued", reason

    def end_step(self, number: int, seat: int, state: str, outcome: Any) -> None:
        self.action.state, self.action.reason, self.action.touched = state, outcome.reason, outcome.touched
        self.updates = [(update.kind, update.key, update.body) for update in outcome.updates]

    def end_range(self, number: int, state: str, reason: str) -> None:
        self.action.state, self.action.reason = state, reason

    def fan_out(self, number: int, places: int, updates: Any) -> None:
        self.action.places = places
        self.updates = [(update.kind, update.key, update.body) for update in updates]


@dataclass
class World:
    """A hub and homes that write down what is done to them; the step named `trouble_at` raises `trouble`."""

    done: list[str] = field(default_factory=list)
    trouble_at: str = ""
    trouble: BaseException = field(default_factory=lambda: ActionFailed("The engine is out of addresses."))

    def _do(self, step: str) -> None:
        if step == self.trouble_at:
            raise self.trouble
        self.done.append(step)


class Hub(World):
    def ensure_absent(self, user: str) -> None:
        self._do(f"hub forgets {user}")

    def start_server(self, user: str) -> None:
        self._do(f"server of {user}")

    def wait_for_answer(self, user: str) -> None:
        self._do(f"answer of {user}")


class Homes(World):
    def new_key_pair(self) -> tuple[bytes, bytes]:
        return b"private", b"public"

    def build(
        self, user: str, uid: int, gid: int, fill: Callable[[Path], None], key_pair: Any, ssh_files: Any
    ) -> None:
        fill(Path("/nowhere"))
        self._do(f"home of {user} for {uid}:{gid}")

    def replace(self, user: str, folder: str, fill: Callable[[Path], None]) -> None:
        fill(Path("/nowhere"))
        self._do(f"{folder} of {user}")

    def ensure_absent(self, user: str) -> None:
        self._do(f"no home of {user}")

    def completion(self, user: str, folder: str, more: Any) -> int:
        self._do(f"completion of {folder} of {user}")
        return 42


class Workshops(World):
    def workshop(self, name: str) -> Any:
        if name.partition("-")[2] not in ("Welcome101", "Lab"):
            raise ContentProblem(f"No workshop called {name}.")
        about = SimpleNamespace(reset=name == "WKSHP-Lab")
        return SimpleNamespace(name="WKSHP-" + name.partition("-")[2], duration_hours=2.5, metadata=about)

    def fill(
        self, home: Path, workshop: Any, mode: str, seat: int, uid: int, gid: int, values: Any
    ) -> list[str]:
        if values:
            self._do(f"values {values}")
        self._do(f"{mode} for seat {seat}")
        return ["A notebook is not JSON."] if mode == "CHLG" else []

    def deliver(self, home: Path, workshop: Any, mode: str, seat: int, uid: int, gid: int) -> list[str]:
        return self.fill(home, workshop, mode, seat, uid, gid, {})


class Appliances(World):
    """WKSHP-Lab has one, others have none."""

    def needed(self, workshop: Any, seat: int) -> Any:
        return "lab" if workshop.name == "WKSHP-Lab" else None

    def prepare(self, needed: Any, seat: int) -> Any:
        return SimpleNamespace(values={"HTTPPORT": 20003}, ssh_files={})

    def start(self, prepared: Any, authorized_key: bytes) -> None:
        assert authorized_key == b"public"
        self._do("appliance of seat 3")

    def ensure_absent(self, seat: int) -> None:
        self._do(f"no appliance of seat {seat}")

    def notebooks(self, seat: int) -> list[bytes]:
        return []


class Portal:
    """A registration database that says `reset` of the workshops as told, or is away."""

    def __init__(self, resets: dict[str, bool] | None) -> None:
        self.resets = resets

    def workshop(self, name: str) -> Any:
        if self.resets is None:
            raise Unavailable("The registration database does not answer.")
        return {"reset": self.resets[name]} if name in self.resets else None

    def deliver(self, update: Any) -> None:
        raise AssertionError("nobody waits for the registration database")


@dataclass
class Stand:
    """A site of stand-ins, and what was done in it."""

    register: Register = field(default_factory=Register)
    done: list[str] = field(default_factory=list)
    trouble_at: str = ""
    trouble: BaseException = field(default_factory=lambda: ActionFailed("The engine is out of addresses."))
    portal: Portal | None = None
    last_seat: int = 20

    def order(
        self,
        action: str,
        customer: int = 17,
        *,
        workshop: str | None = "WKSHP-Welcome101",
        seat: int = 3,
        last: int | None = None,
        attempt: int = 0,
        **known: Any,
    ) -> Any:
        """Carry out an action as it stands in the record; returns the record afterwards."""
        self.register.action = SimpleNamespace(
            action=1, kind=action, seat=seat, first=seat, last=last or seat, last_seat=last or seat,
            customer=customer, workshop=workshop, state="queued", reason=None, phases=[], attempts=attempt,
            completion=None, overtaken_by=None, ended_before=False,
        )  # fmt: skip
        vars(self.register.action).update(known)
        return self.again()

    def again(self) -> Any:
        carry_out(self.register.action.seat, self.site())
        return self.register.action

    def order_range(
        self, customer: int = 33, *, workshop: str = "WKSHP-Lab", first: int = 1, last: int = 20
    ) -> Any:
        """Make an order on several seats into steps, if it can be carried out."""
        self.register.action = SimpleNamespace(
            action="RESET", seat=first, last_seat=last, customer=customer, workshop=workshop, state="queued",
            reason=None, attempts=0, places=None,
        )  # fmt: skip
        fan_out(1, self.site())
        return self.register.action

    def site(self) -> Site:
        parts = [
            part(self.done, self.trouble_at, self.trouble) for part in (Hub, Homes, Workshops, Appliances)
        ]
        settings = SimpleNamespace(
            UIDBASE=2000, GIDBASE=2000, WODUSERMIN=1, WODUSERMAX=self.last_seat, WODBASESTDID=100
        )
        return Site(settings, self.register, self.register, *parts, self.portal)


@pytest.fixture
def stand() -> Stand:
    return Stand()


@contextmanager
def leased_to(stand: Stand, customer: int, **changes: Any) -> Iterator[None]:
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    held = Seat(3, "ready", "WKSHP-Welcome101", "WKSHP", customer, later)
    stand.register.seat_3 = replace(held, **changes)
    yield


def test_create_makes_a_seat_ready_in_order(stand: Stand) -> None:
    """CREATE closes what was, builds the home, starts a server that answers; then the seat is ready."""
    action = stand.order("CREATE")
    assert action.state == "done"
    assert stand.done == [
        "hub forgets student3", "no appliance of seat 3", "no home of student3", "WKSHP for seat 3",
        "home of student3 for 2003:2003",
        "server of student3", "answer of student3",
    ]  # fmt: skip
    assert stand.register.states == ["preparing", "ready"]


def test_create_says_what_is_odd_about_what_it_delivered(stand: Stand) -> None:
    """The seat is ready all the same; the record tells what the participant will meet."""
    action = stand.order("CREATE", workshop="CHLG-Welcome101")
    assert (action.state, action.reason) == ("done", "A notebook is not JSON.")
    assert stand.order("CREATE", 18).reason is None


def test_a_seat_that_the_site_gave_up_is_still_taken_back(stand: Stand) -> None:
    """With fewer seats than before, a lease beyond them ends as every other, and no new one begins there."""
    stand.last_seat = 2
    with leased_to(stand, 17):
        assert stand.order("CLEANUP").state == "done"
        assert stand.register.seat_3.state == "free"
        assert stand.order("CREATE", 18).state == "rejected"


def test_create_lends_the_seat_for_the_time_of_the_workshop(stand: Stand) -> None:
    """The lease lasts as long as the workshop's description says."""
    stand.order("CREATE")
    left = stand.register.seat_3.lease_until - datetime.now(timezone.utc)
    assert timedelta(hours=2.49) < left <= timedelta(hours=2.5)


def test_create_stores_an_argon2id_hash_of_a_fresh_password(stand: Stand) -> None:
    """The register holds a hash only, and another one each time."""
    stand.order("CREATE", 0)
    first = stand.register.hashed
    stand.order("CREATE", 0)
    assert first.startswith("$argon2id$")
    assert stand.register.hashed not in (None, first)


def test_a_password_is_letters_and_digits_that_nobody_mistakes() -> None:
    """At least 12 characters, no two alike passwords, none of 0 O 1 l I."""
    found = {seats_module.new_password() for _ in range(500)}
    assert len(found) == 500
    assert all(len(word) >= 12 and word.isascii() and word.isalnum() for word in found)
    assert not set("".join(found)) & set("0O1lI")


def test_create_records_how_long_each_phase_took(stand: Stand) -> None:
    """The record names the phases in order."""
    assert stand.order("CREATE").phases == [
        "claim",
        "close",
        "password",
        "prepare",
        "home",
        "server",
        "answer",
    ]


def test_a_challenge_is_delivered_as_one(stand: Stand) -> None:
    """CHLG-X delivers the folder of WKSHP-X in the mode of a challenge."""
    stand.order("CREATE", workshop="CHLG-Welcome101")
    assert "CHLG for seat 3" in stand.done
    assert stand.register.seat_3.mode == "CHLG"


def test_a_mail_that_comes_twice_wipes_nothing(stand: Stand) -> None:
    """CREATE for the customer who holds the seat ready, with the same workshop, touches nothing."""
    with leased_to(stand, 17):
        action = stand.order("CREATE", 17)
    assert action.state == "done"
    assert "nothing was touched" in action.reason
    assert stand.done == stand.register.states == []


@pytest.mark.parametrize(
    ("held", "customer"),
    [
        ({"customer": 0}, 0),
        ({"customer": 18}, 17),
        ({"customer": 18}, 0),
        ({"customer": 17, "workshop": "WKSHP-Other"}, 17),
        ({"customer": 17, "state": "failed"}, 17),
        ({"customer": 17, "state": "preparing"}, 17),
        ({"customer": 17, "lease_until": datetime(2020, 1, 1, tzinfo=timezone.utc)}, 17),
    ],
)
def test_create_takes_back_whatever_else_the_seat_was(
    stand: Stand, held: dict[str, Any], customer: int
) -> None:
    """By hand, for another customer or workshop, after a failure or the lease's end: the seat is made new."""
    with leased_to(stand, **held):
        stand.order("CREATE", customer)
    assert stand.done[:3] == ["hub forgets student3", "no appliance of seat 3", "no home of student3"]
    assert (
        stand.register.seat_3.is_ready_for(customer, "WKSHP-Welcome101", datetime.now(timezone.utc))
        or not customer
    )
    assert stand.register.states == ["preparing", "ready"]


def test_nobody_can_log_in_while_the_seat_changes_hands(stand: Stand) -> None:
    """The former hash is gone before anything else happens, and none replaces it until the seat answers."""
    stand.trouble_at = "answer of student3"
    with leased_to(stand, 18):
        stand.register.hashed = "former"
        stand.order("CREATE", 17)
    assert stand.register.hashed is None
    assert stand.register.states == ["preparing", "failed"]


@pytest.mark.parametrize(
    "step", ["hub forgets student3", "home of student3 for 2003:2003", "server of student3"]
)
def test_a_failure_is_told_and_the_next_action_takes_the_seat(stand: Stand, step: str) -> None:
    """A failed CREATE leaves the reason with action and seat; the same CREATE again makes it ready."""
    stand.trouble_at = step
    action = stand.order("CREATE")
    assert (action.state, action.reason) == ("failed", "The engine is out of addresses.")
    assert (stand.register.seat_3.state, stand.register.seat_3.reason) == ("failed", action.reason)
    stand.trouble_at = ""
    assert stand.order("CREATE").state == "done"


def test_what_is_away_is_tried_again(stand: Stand) -> None:
    """With the hub away the action goes back to the queue, says why, and is done when the hub is back."""
    stand.trouble_at, stand.trouble = "server of student3", Unavailable("The hub does not answer.")
    with pytest.raises(Unavailable):
        stand.order("CREATE")
    action = stand.register.action
    assert action.state == "queued"
    assert action.reason == "The hub does not answer. To be tried again."
    stand.trouble_at = ""
    assert stand.again().state == "done"


def test_what_stays_away_fails_at_last(stand: Stand) -> None:
    """The last attempt is the end: the action failed, for the reason that was there."""
    stand.trouble_at, stand.trouble = "server of student3", Unavailable("The hub does not answer.")
    action = stand.order("CREATE", attempt=ATTEMPTS)
    assert (action.state, action.reason) == ("failed", "The hub does not answer.")


def test_an_action_that_loses_every_worker_is_given_up(stand: Stand) -> None:
    """An action that was begun too often, and never ended, is not begun once more."""
    action = stand.order("CREATE", attempt=ATTEMPTS + 1)
    assert action.state == "failed"
    assert "the worker was lost each time" in action.reason
    assert stand.done == []


def test_the_unforeseen_is_told_as_well(stand: Stand) -> None:
    """A bug of ours fails the action with its name; it does not lose the action."""
    stand.trouble_at, stand.trouble = "server of student3", ZeroDivisionError("division by zero")
    action = stand.order("CREATE")
    assert action.state == "failed"
    assert "ZeroDivisionError: division by zero" in action.reason


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ({"seat": 21}, "not on this backend"),
        ({"workshop": "WKSHP-Nothing"}, "No workshop called WKSHP-Nothing"),
        ({"workshop": "../../etc"}, "no name of a workshop"),
        ({"action": "PURGE", "workshop": None, "seat": 21}, "not on this backend"),
        ({"action": "CLEANUP", "seat": 21}, "not on this backend"),
        ({"action": "RESET", "workshop": "WKSHP-Lab", "seat": 21}, "not on this backend"),
    ],
)
def test_an_order_that_cannot_be_carried_out_is_rejected(
    stand: Stand, order: dict[str, Any], reason: str
) -> None:
    """Such an order ends as rejected, with the reason, and touches nothing."""
    action = stand.order(**{"action": "CREATE", **order})
    assert action.state == "rejected"
    assert reason in action.reason
    assert stand.done == stand.register.states == []


def test_cleanup_frees_the_seat(stand: Stand) -> None:
    """CLEANUP ends server, sessions and home, in this order; the seat is free and nobody's."""
    with leased_to(stand, 17):
        action = stand.order("CLEANUP", 17)
    assert action.state == "done"
    assert stand.done == [
        "hub forgets student3", "completion of WKSHP-Welcome101 of student3", "no appliance of seat 3",
        "no home of student3",
    ]  # fmt: skip
    assert stand.register.states == ["cleaning", "free"]
    assert stand.register.seat_3 == FREE
    assert action.completion == 42


def test_cleanup_of_a_free_seat_is_done(stand: Stand) -> None:
    """Running CLEANUP twice changes nothing."""
    assert stand.order("CLEANUP").state == "done"
    assert stand.register.seat_3 == FREE


def test_a_late_cleanup_leaves_the_next_customer_in_peace(stand: Stand) -> None:
    """CLEANUP for a customer who no longer holds the seat touches nothing, and says whose it is."""
    with leased_to(stand, 18):
        action = stand.order("CLEANUP", 17)
    assert action.state == "done"
    assert "customer 18's now" in action.reason
    assert stand.done == stand.register.states == []


@pytest.mark.parametrize(("holder", "customer"), [(18, 0), (0, 17)])
def test_cleanup_by_hand_always_works(stand: Stand, holder: int, customer: int) -> None:
    """Customer 0 is nobody: neither his orders nor his leases are refused for the name's sake."""
    with leased_to(stand, holder):
        stand.order("CLEANUP", customer)
    assert stand.register.seat_3 == FREE


def test_cleanup_needs_no_workshop_to_be_there(stand: Stand) -> None:
    """A workshop that left the site does not keep its seats open."""
    assert stand.order("CLEANUP", workshop="WKSHP-Gone").state == "done"


def test_an_action_that_has_ended_is_not_carried_out_again(stand: Stand) -> None:
    """A second job for the same action does nothing."""
    stand.order("CREATE", 0)
    before = list(stand.done)
    stand.again()
    assert stand.done == before


PASSWORD = ("student", "103", {"password": None})
RELEASED = ("student", "103", {"assigned": "false"})
CLEANED = ("customer", "17", {"cleaned": "true"})
COMPLETED = ("customer", "17", {"completionPercentage": "42"})


@pytest.mark.parametrize("action", ["CLEANUP", "RESET", "PURGE", "CREATE"])
def test_an_overtaken_order_touches_nothing(stand: Stand, action: str) -> None:
    """Whatever was ordered before the present lease, but comes after it, leaves that lease in peace."""
    with leased_to(stand, 17, workshop="WKSHP-Lab"):
        workshop = None if action == "PURGE" else "WKSHP-Lab"
        ended = stand.order(action, 17, workshop=workshop, overtaken_by=9)
    assert ended.state == "done"
    assert "Action 9 was ordered later" in ended.reason
    assert stand.done == stand.register.states == []


def test_a_killed_create_of_a_ready_seat_is_told_after_all(stand: Stand) -> None:
    """The worker died between the seat's readiness and the record: the next one owes what it would have."""
    stand.portal = Portal({})
    with leased_to(stand, 17):
        assert stand.order("CREATE", 17, attempt=1).state == "done"
    assert stand.register.updates == [PASSWORD, ("customer", "17", {"active": "true"})]


def test_a_repeated_create_changes_no_password(stand: Stand) -> None:
    """The participant may have his credentials already: nothing is told again."""
    stand.portal = Portal({})
    with leased_to(stand, 17):
        stand.order("CREATE", 17)
    assert stand.register.updates == []


def test_cleanup_keeps_a_seat_that_needs_a_reset(stand: Stand) -> None:
    """Nobody can log in and no server runs, but the home stays, and the seat is not free."""
    with leased_to(stand, 17, workshop="WKSHP-Lab"):
        action = stand.order("CLEANUP", 17, workshop="WKSHP-Lab")
    assert (action.state, action.reason) == ("done", "The seat waits for its RESET.")
    assert stand.done == [
        "hub forgets student3",
        "completion of WKSHP-Lab of student3",
        "no appliance of seat 3",
    ]
    assert stand.register.seat_3.state == "cleaning"
    assert stand.register.seat_3.customer == 17


def test_reset_frees_the_seat_that_its_cleanup_kept(stand: Stand) -> None:
    """The completion that the CLEANUP told is not told again."""
    stand.portal = Portal({"WKSHP-Lab": True})
    with leased_to(stand, 17, workshop="WKSHP-Lab", state="cleaning"):
        assert stand.order("RESET", 17, workshop="WKSHP-Lab", ended_before=True).state == "done"
    assert stand.done == ["hub forgets student3", "no appliance of seat 3", "no home of student3"]
    assert stand.register.seat_3 == FREE
    assert stand.register.updates == [PASSWORD, RELEASED]


@pytest.mark.parametrize(("action", "workshop"), [("RESET", "WKSHP-Lab"), ("PURGE", None)])
def test_without_a_cleanup_they_do_its_work(stand: Stand, action: str, workshop: str | None) -> None:
    """RESET and PURGE whose CLEANUP never came count what was done, and tell that the participant is gone."""
    stand.portal = Portal({"WKSHP-Lab": True})
    with leased_to(stand, 17, workshop="WKSHP-Lab"):
        ended = stand.order(action, 17, workshop=workshop)
    assert ended.completion == 42
    assert stand.register.seat_3 == FREE
    assert stand.register.updates[0] == COMPLETED
    assert stand.register.updates[-1] == CLEANED


@pytest.mark.parametrize(("action", "workshop"), [("RESET", "WKSHP-Lab"), ("PURGE", None)])
def test_a_late_reset_or_purge_leaves_the_next_customer_in_peace(
    stand: Stand, action: str, workshop: str | None
) -> None:
    """They are about another lease: nothing is touched."""
    with leased_to(stand, 18, workshop="WKSHP-Lab"):
        assert "customer 18's now" in stand.order(action, 17, workshop=workshop).reason
    assert stand.done == stand.register.states == []


def test_reset_does_nothing_to_a_workshop_without_the_flag(stand: Stand) -> None:
    """Not even where its CLEANUP never came: that is the CLEANUP's business."""
    with leased_to(stand, 17):
        assert "not flagged `reset`" in stand.order("RESET", 17).reason
        assert "not flagged `reset`" in stand.order_range(17, workshop="WKSHP-Welcome101").reason
    assert stand.done == stand.register.states == []


@pytest.mark.parametrize(("portal", "kept"), [({"WKSHP-Lab": False}, False), (None, True), ({}, True)])
def test_the_portal_says_what_needs_a_reset_else_the_workshop(
    stand: Stand, portal: dict[str, bool] | None, kept: bool
) -> None:
    """While the registration database is away, or has no such workshop, wod.yml holds."""
    stand.portal = Portal(portal)
    with leased_to(stand, 17, workshop="WKSHP-Lab"):
        stand.order("CLEANUP", 17, workshop="WKSHP-Lab")
    assert (stand.register.seat_3.state == "cleaning") is kept


def test_a_range_of_seats_restores_the_capacity(stand: Stand) -> None:
    """As many places as seats; the registration database is told once."""
    stand.portal = Portal({})
    assert stand.order_range().places == 20
    assert stand.register.updates == [("workshop", "WKSHP-Lab", {"capacity": "20"})]


@pytest.mark.parametrize(("first", "last"), [(0, 3), (1, 21), (5, 2)])
def test_a_range_with_seats_that_are_not_ours_is_rejected_as_a_whole(
    stand: Stand, first: int, last: int
) -> None:
    """Both ends are checked before any seat is touched."""
    action = stand.order_range(first=first, last=last)
    assert action.state == "rejected"
    assert action.places is None


@pytest.mark.parametrize(
    ("state", "customer", "touched"),
    [
        ("cleaning", 18, True),
        ("failed", 18, True),
        ("ready", 18, False),
        ("preparing", 18, False),
        ("ready", 33, True),
    ],
)
def test_a_reset_of_a_range_disturbs_nobody_at_work(
    stand: Stand, state: str, customer: int, touched: bool
) -> None:
    """Seats that wait for it are reset whoever had them; one that is lent to another is not."""
    with leased_to(stand, customer, state=state, workshop="WKSHP-Lab"):
        action = stand.order("RESET", 33, workshop="WKSHP-Lab", seat=3, last=20)
    assert (stand.register.seat_3 == FREE) is touched
    assert action.touched is touched


def test_what_the_portal_is_told_of_a_lease(stand: Stand) -> None:
    """Password and `active` once the seat answers; at the end completion, release, `cleaned`, in this order."""
    stand.portal = Portal({})
    stand.order("CREATE")
    assert stand.register.updates == [PASSWORD, ("customer", "17", {"active": "true"})]
    stand.order("CLEANUP")
    assert stand.register.updates == [PASSWORD, COMPLETED, RELEASED, CLEANED]
    stand.order("PURGE", workshop=None, ended_before=True)
    assert stand.register.updates == [CLEANED]


def test_what_the_portal_is_told_of_a_seat_that_is_kept(stand: Stand) -> None:
    """It stays assigned until its RESET, while the customer is not active any more."""
    stand.portal = Portal({"WKSHP-Lab": True})
    with leased_to(stand, 17, workshop="WKSHP-Lab"):
        stand.order("CLEANUP", workshop="WKSHP-Lab")
    assert stand.register.updates == [
        PASSWORD, COMPLETED, ("student", "103", {"assigned": "true"}),
        ("customer", "17", {"active": "false"}), CLEANED,
    ]  # fmt: skip


def test_a_purge_frees_the_row_with_one_update(stand: Stand) -> None:
    """Release and password go together, as valid JSON."""
    stand.portal = Portal({})
    stand.order("PURGE", 0, workshop=None)
    assert stand.register.updates == [("student", "103", {"assigned": "false", "password": None})]


def test_nothing_is_told_of_a_seat_that_is_anothers(stand: Stand) -> None:
    """The customer who left is told to be cleaned; the row of the seat is its present holder's."""
    stand.portal = Portal({})
    with leased_to(stand, 18):
        stand.order("CLEANUP", 17)
    assert stand.register.updates == [CLEANED]


def test_a_failed_create_tells_nothing(stand: Stand) -> None:
    """No password that does not work, nobody active without a seat."""
    stand.portal, stand.trouble_at = Portal({}), "answer of student3"
    stand.order("CREATE")
    assert stand.register.updates == []


def test_without_a_portal_nothing_is_owed(stand: Stand) -> None:
    """A site for itself collects no debts."""
    stand.order("CREATE")
    assert stand.register.updates == []


def test_an_appliance_starts_beside_the_home_and_its_values_reach_the_notebooks(stand: Stand) -> None:
    action = stand.order("CREATE", workshop="WKSHP-Lab")
    assert action.state == "done" and action.phases[-1] == "appliance"
    assert "values {'HTTPPORT': 20003}" in stand.done
    assert stand.done.index("no appliance of seat 3") < stand.done.index("appliance of seat 3")


@pytest.mark.parametrize("step", ["appliance of seat 3", "server of student3"])
def test_nothing_of_an_appliance_stays_where_a_create_fails(stand: Stand, step: str) -> None:
    """Whichever of the two it is that fails; nobody can log in then."""
    stand.trouble_at = step
    assert stand.order("CREATE", workshop="WKSHP-Lab").state == "failed"
    assert stand.done[-1] == "no appliance of seat 3"
    assert stand.register.states[-1] == "failed" and stand.register.hashed is None


# --- DELIVER ----


def test_a_workshop_is_delivered_where_somebody_works(stand: Stand) -> None:
    """Into the home alone: server, lease and password stay, and what is odd is said."""
    with leased_to(stand, 17):
        before = replace(stand.register.seat_3)
        ended = stand.order("DELIVER", 0, workshop="CHLG-Lab")
        assert (ended.state, ended.reason) == ("done", "A notebook is not JSON.")
        assert stand.done == ["CHLG for seat 3", "WKSHP-Lab of student3"]
        assert stand.register.seat_3 == before


@pytest.mark.parametrize("state", ["free", "preparing", "cleaning", "failed"])
def test_nothing_is_delivered_to_a_seat_that_is_not_ready(stand: Stand, state: str) -> None:
    """Its home is absent, or about to be another."""
    stand.register.seat_3 = Seat(3, state)
    ended = stand.order("DELIVER", 0)
    assert ended.state == "rejected"
    assert f"Seat 3 is {state}" in ended.reason
    assert stand.done == []


@pytest.mark.parametrize(
    ("workshop", "trouble"), [("WKSHP-Unknown", ""), ("WKSHP-Lab", "WKSHP-Lab of student3")]
)
def test_a_delivery_that_cannot_be_made_closes_no_seat(stand: Stand, workshop: str, trouble: str) -> None:
    """An unknown workshop, a full disk: who works there goes on."""
    stand.trouble_at = trouble
    with leased_to(stand, 17):
        ended = stand.order("DELIVER", 0, workshop=workshop)
        assert ended.state == "rejected" and ended.reason
        assert stand.register.seat_3.state == "ready"


def test_not_even_one_that_nobody_foresaw_closes_a_seat(stand: Stand) -> None:
    """It is said, and who works there goes on."""
    stand.trouble_at, stand.trouble = "WKSHP-Lab of student3", RuntimeError("what is this")
    with leased_to(stand, 17):
        ended = stand.order("DELIVER", 0, workshop="WKSHP-Lab")
        assert ended.state == "failed" and "what is this" in ended.reason
        assert stand.register.seat_3.state == "ready"
