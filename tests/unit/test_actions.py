"""Actions on seats, with stand-ins for the hub, the homes and the register."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from argon2 import PasswordHasher

from wodctl.actions.carry_out import ATTEMPTS, carry_out, fan_out
from wodctl.actions.create import PATIENCE
from wodctl.actions.site import Site
from wodctl.errors import ActionFailed, ContentProblem, Unavailable
from wodctl.model import seat as seats_module
from wodctl.model.scripts import Occasion
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
    owed_early: Any = ()

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
        if "leaver" not in vars(self.action):
            by_another = self.action.kind == "CREATE" or not self.action.customer
            holder = self.seat_3.customer or None
            self.action.leaver = (
                holder if by_another or self.action.first != self.action.last else self.action.customer
            )
        return self.action

    def begin_range(self, number: int) -> Any:
        self.action.state = "running"
        return self.action

    def note_phases(self, number: int, phases: Any) -> None:
        self.action.phases = [phase["name"] for phase in phases]

    def note_completion(self, number: int, seat: int, percentage: int) -> None:
        self.action.completion = percentage

    def owe(self, number: int, seat: int, updates: Any) -> None:
        self.owed_early = [(update.kind, update.key, update.body) for update in updates]

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

    def start_server(self, user: str, lab: str) -> None:
        self._do(f"server of {user}" if lab == "lab" else f"{lab} of {user}")

    def wait_for_answer(self, user: str) -> None:
        self._do(f"answer of {user}")


class Homes(World):
    def new_key_pair(self) -> tuple[bytes, bytes]:
        return b"private", b"public"

    def build(self, user: str, uid: int, gid: int, fill: Callable[[Path], None]) -> None:
        fill(Path("/nowhere"))
        self._do(f"home of {user} for {uid}:{gid}")

    def replace(self, user: str, folder: str, fill: Callable[[Path], None]) -> None:
        fill(Path("/nowhere"))
        self._do(f"{folder} of {user}")

    def install_keys(self, home: Path, uid: int, gid: int, key_pair: Any, ssh_files: Any) -> None:
        """Nobody looks at them here."""

    def existing(self, user: str) -> Path | None:
        return Path("/student") / user

    def ensure_absent(self, user: str) -> None:
        self._do(f"no home of {user}")

    def completion(self, user: str, folder: str, more: Any) -> int:
        self._do(f"completion of {folder} of {user}")
        return 42


@dataclass
class Workshops(World):
    shown: list[str | None] = field(default_factory=list)
    compile: tuple[str, ...] = ()

    def workshop(self, name: str) -> Any:
        if name.partition("-")[2] not in ("Welcome101", "Lab", "Ldap", "Told", "Shown"):
            raise ContentProblem(f"No workshop called {name}.")
        flags = SimpleNamespace(
            reset=name == "WKSHP-Lab",
            ldap=name == "WKSHP-Ldap",
            varpass=name == "WKSHP-Told",
            compile=self.compile,
            egress={"Lab": (), "Ldap": ("git.example.net", "unknown.example.net")}.get(
                name.partition("-")[2]
            ),
        )
        return SimpleNamespace(name="WKSHP-" + name.partition("-")[2], duration_hours=2.5, metadata=flags)

    def lab(self, workshop: Any) -> str:
        return "jvm" if workshop.metadata.reset else "lab"

    def shows_password(self, workshop: Any) -> bool:
        return bool(workshop.name == "WKSHP-Shown")

    def furnish(self, home: Path, uid: int, gid: int) -> None:
        """Nobody looks at it here."""

    def give_secrets(self, home: Path, workshop: Any, mode: str, seat: int, uid: int, gid: int) -> None:
        """Nobody asks for any here."""

    def fill(
        self,
        home: Path,
        workshop: Any,
        mode: str,
        seat: int,
        uid: int,
        gid: int,
        made: Path | None,
        values: Any,
    ) -> list[str]:
        if values:
            self._do(f"values {values}")
        self._do(f"{mode} for seat {seat}")
        self.shown.append(values.get("PASSSTU"))
        return ["A notebook is not JSON."] if mode == "CHLG" else []


class Scripts(World):
    """The scripts of a site, by their kinds; that of the kind `failing` ends as told."""

    kinds: tuple[str, ...] = ()
    failing: tuple[str, Any] = ("", None)
    made = Path("/made")

    def named(self, kind: str, folder: str) -> list[Any]:
        where = (("public", "private") if kind == "create" else ("private",)) if kind in self.kinds else ()
        return [SimpleNamespace(kind=kind, name=f"{place} {kind}-{folder}.sh") for place in where]

    @contextmanager
    def at(self, occasion: Occasion) -> Iterator["Scripts"]:
        self.occasion, self.folder = occasion, occasion.folder
        try:
            yield self
        finally:
            if self.kinds:
                self._do("desk cleared")

    def run(self, script: Any, workshop: Any, home: Path | None) -> Any:
        self._do(f"{script.name} at {home}")
        kind, ending = self.failing
        return ending if script.kind == kind else SimpleNamespace(status=0, output=f"{script.kind}: well")

    def compile(self, names: Any, workshop: Any, home: Path) -> str:
        self._do(f"compiled {', '.join(names)}")
        return ""

    def lend(self, workshop: Any) -> Any:
        self._do("content lent")
        return workshop


class Appliances(World):
    """WKSHP-Lab has one, others have none."""

    def needed(self, workshop: Any, seat: int) -> Any:
        return "lab" if workshop.name == "WKSHP-Lab" else None

    def prepare(self, needed: Any, seat: int) -> Any:
        return SimpleNamespace(values={"HTTPPORT": 20003}, ssh_files={}, outside=("192.0.2.7",))

    def start(self, prepared: Any, authorized_key: bytes) -> None:
        assert authorized_key == b"public"
        self._do("appliance of seat 3")

    def ensure_absent(self, seat: int) -> None:
        self._do(f"no appliance of seat {seat}")

    def values(self, seat: int) -> dict[str, object]:
        return {"HTTPPORT": 20003} if "appliance of seat 3" in self.done else {}

    def notebooks(self, seat: int) -> list[bytes]:
        return []


class Egress(World):
    """Whom it is told; `open` says nothing, so that tests about others need not name it."""

    def allow(self, seat: int, places: Any) -> list[str]:
        if places is not None:
            self._do(f"seat {seat} may reach {', '.join(places) or 'nothing'}")
        return [place for place in places or () if place.startswith("unknown")]


class Directory(World):
    def set_password(self, seat: int, password: str) -> None:
        self._do(f"directory of {seat}")
        self.done.append(password)


class Passwords:
    """Those that are kept, by seat and customer."""

    def __init__(self) -> None:
        self.all: dict[tuple[int, int], str] = {}

    def keep(self, seat: int, customer: int, password: str) -> None:
        self.all[seat, customer] = password

    def kept(self, seat: int, customer: int) -> str | None:
        return self.all.get((seat, customer))

    def forget(self, seat: int) -> None:
        self.all = {key: password for key, password in self.all.items() if key[0] != seat}


class Portal:
    """A registration database that says `reset` of the workshops as told, or is away."""

    def __init__(self, resets: dict[str, bool] | None) -> None:
        self.resets = resets

    def workshop(self, name: str) -> Any:
        if self.resets is None:
            raise Unavailable("The registration database does not answer.")
        return {"id": 7, "reset": self.resets[name]} if name in self.resets else None

    def token(self) -> str:
        return "a token"

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
    kinds: tuple[str, ...] = ()
    failing: tuple[str, Any] = ("", None)
    compile: tuple[str, ...] = ()
    scripts: Any = None
    passwords: Passwords = field(default_factory=Passwords)
    shown: list[str | None] = field(default_factory=list)
    has_directory: bool = True
    fixed_password: str | None = None

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
        hub, homes, workshops, directory = (
            part(self.done, self.trouble_at, self.trouble) for part in (Hub, Homes, Workshops, Directory)
        )
        workshops.shown = self.shown
        settings = SimpleNamespace(
            UIDBASE=2000, GIDBASE=2000, WODUSERMIN=1, WODUSERMAX=self.last_seat, WODBASESTDID=100
        )
        settings.WODSCRIPTSECONDS = 300
        workshops.compile = self.compile
        self.scripts = Scripts(self.done, self.trouble_at, self.trouble)
        self.scripts.kinds, self.scripts.failing = self.kinds, self.failing
        appliances = Appliances(self.done, self.trouble_at, self.trouble)
        return Site(
            settings, self.register, self.register, hub, homes, workshops, self.scripts, appliances,
            Egress(self.done, self.trouble_at, self.trouble), self.passwords,
            self.portal, directory if self.has_directory else None, self.fixed_password,
        )  # fmt: skip


@pytest.fixture
def stand() -> Stand:
    return Stand()


@contextmanager
def leased_to(stand: Stand, customer: int | None, **changes: Any) -> Iterator[None]:
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    held = Seat(3, "ready", "WKSHP-Welcome101", "WKSHP", customer, later)
    stand.register.seat_3 = replace(held, **changes)
    yield


def test_where_a_seat_may_go_is_settled_before_anything_of_the_lease_runs(stand: Stand) -> None:
    """After the former server is gone and before home, appliance and server; without it there is no seat."""
    stand.order("CREATE", workshop="WKSHP-Lab")
    place = stand.done.index("seat 3 may reach 192.0.2.7")
    before, after = stand.done[:place], stand.done[place + 1 :]
    assert {"hub forgets student3", "no appliance of seat 3"} <= set(before)
    assert {"appliance of seat 3", "home of student3 for 2003:2003", "jvm of student3"} <= set(after)
    other = Stand(trouble_at="seat 3 may reach 192.0.2.7")
    assert other.order("CREATE", workshop="WKSHP-Lab").state != "done"
    assert not any(done.startswith(("jvm", "home of", "appliance of")) for done in other.done)


def test_a_name_without_an_address_is_told(stand: Stand) -> None:
    """The seat is made, and the operator reads why something may be out of its reach."""
    action = stand.order("CREATE", workshop="WKSHP-Ldap")
    assert action.state == "done"
    assert "unknown.example.net, which the workshop may reach, has no address" in action.reason


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
    stand.order("PURGE", 0, workshop=None)
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
        "egress",
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
        ({"customer": 0}, 17),
        ({"customer": 18, "state": "failed"}, 17),
        ({"customer": 18, "state": "cleaning"}, 0),
        ({"customer": 18, "lease_until": datetime(2020, 1, 1, tzinfo=timezone.utc)}, 17),
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
    done = [deed for deed in stand.done if not deed.startswith("completion")]
    assert done[:3] == ["hub forgets student3", "no appliance of seat 3", "no home of student3"]
    assert (
        stand.register.seat_3.is_ready_for(customer, "WKSHP-Welcome101", datetime.now(timezone.utc))
        or not customer
    )
    assert stand.register.states == ["preparing", "ready"]


@pytest.mark.parametrize("customer", [17, 0])
def test_a_seat_that_is_lent_is_not_taken(stand: Stand, customer: int) -> None:
    """A portal that gives one seat to two, an operator who mistypes its number: who works there goes on working."""
    with leased_to(stand, 18):
        if customer:  # the mail that ends the former lease may be on its way
            with pytest.raises(Unavailable):
                stand.order("CREATE", customer)
            assert "is lent to customer 18" in stand.register.action.reason
        action = stand.order("CREATE", customer, attempt=PATIENCE)
    assert action.state == "rejected"
    assert "is lent to customer 18 until" in action.reason
    assert "`wodctl student wipe 3`" in action.reason
    assert stand.done == stand.register.states == []


@pytest.mark.parametrize("state", ["failed", "ready"])
def test_who_had_the_seat_before_is_told_of_it(stand: Stand, state: str) -> None:
    """Though no CLEANUP came: what he had done counts, and he is told to be gone, even if the CREATE then fails."""
    stand.portal, stand.trouble_at = Portal({}), "server of student3"
    over = datetime(2020, 1, 1, tzinfo=timezone.utc)
    with leased_to(stand, 17, state=state, lease_until=over):
        assert stand.order("CREATE", 18).state == "failed"
    assert stand.register.owed_early == [COMPLETED, CLEANED]


def test_who_has_left_before_is_not_told_twice(stand: Stand) -> None:
    """A seat that waits for its RESET was left by its CLEANUP."""
    stand.portal = Portal({})
    with leased_to(stand, 17, state="cleaning"):
        assert stand.order("CREATE", 18, ended_before=True).state == "done"
    assert stand.register.owed_early == ()
    assert not [deed for deed in stand.done if deed.startswith("completion")]


@pytest.mark.parametrize("workshop", ["WKSHP-Told", "WKSHP-Shown", "WKSHP-Ldap"])
def test_a_password_that_is_shown_is_the_one_that_opens_the_seat(stand: Stand, workshop: str) -> None:
    """In the notebooks, in the directory and for the registration database it is the same."""
    stand.portal = Portal(None)
    stand.order("CREATE", workshop=workshop)
    [password] = stand.shown
    assert password
    assert PasswordHasher().verify(stand.register.hashed, password)
    assert stand.passwords.all == {(3, 17): password}
    if workshop == "WKSHP-Ldap":
        assert stand.done[stand.done.index("directory of 3") + 1] == password
    assert "directory of 3" not in stand.done or workshop == "WKSHP-Ldap"


def test_other_passwords_are_neither_shown_nor_kept(stand: Stand) -> None:
    """Nobody needs them before they are told."""
    stand.portal = Portal({})
    stand.order("CREATE")
    assert stand.shown == [None]
    assert stand.passwords.all == {}


def test_at_the_end_of_a_lease_the_directory_opens_with_nothing_known(stand: Stand) -> None:
    """Another password at each end, and nothing is kept."""
    stand.portal, seen = Portal(None), set()
    for end in ("CLEANUP", "PURGE"):
        stand.order("CREATE", workshop="WKSHP-Ldap")
        stand.done.clear()
        workshop = "WKSHP-Ldap" if end == "CLEANUP" else None
        assert stand.order(end, workshop=workshop).state == "done"
        seen.add(stand.done[stand.done.index("directory of 3") + 1])
        assert stand.passwords.all == {}
    assert len(seen) == 2
    assert not seen & set(stand.shown)


def test_a_seat_is_not_free_while_its_entry_may_still_be_open(stand: Stand) -> None:
    """With the directory away the end of the lease waits, without a server; no next one gets the seat."""
    stand.order("CREATE", workshop="WKSHP-Ldap")
    stand.trouble_at, stand.trouble = "directory of 3", Unavailable("The directory does not answer.")
    with pytest.raises(Unavailable):
        stand.order("CLEANUP", workshop="WKSHP-Ldap")
    assert stand.register.seat_3.state == "cleaning"
    assert stand.register.action.reason == "The directory does not answer. To be tried again."
    stand.trouble_at = ""
    assert stand.again().state == "done"
    assert stand.register.seat_3 == FREE


def test_the_former_lease_leaves_no_open_entry_to_the_next(stand: Stand) -> None:
    """Its entry is closed though the next workshop needs no directory."""
    with leased_to(stand, 18, state="failed", workshop="WKSHP-Ldap"):
        stand.order("CREATE", 17)
    assert "directory of 3" in stand.done


def test_a_workshop_that_needs_a_directory_says_so_where_there_is_none(stand: Stand) -> None:
    """Its seat would be of no use; taking it back must be possible all the same."""
    stand.has_directory = False
    action = stand.order("CREATE", workshop="WKSHP-Ldap")
    assert action.state == "failed"
    assert "set WODLDAPSRVNAME" in action.reason
    assert stand.order("CLEANUP", workshop="WKSHP-Ldap").state == "done"


def test_at_a_test_event_one_password_opens_all(stand: Stand) -> None:
    """The registration database is told the same; what a lease leaves in the directory is another one."""
    stand.portal, stand.fixed_password = Portal(None), "all-of-you"
    stand.order("CREATE", workshop="WKSHP-Ldap")
    assert PasswordHasher().verify(stand.register.hashed, "all-of-you")
    assert stand.passwords.all == {(3, 17): "all-of-you"}
    stand.done.clear()
    stand.order("CLEANUP", workshop="WKSHP-Ldap")
    assert "all-of-you" not in stand.done


def test_nobody_can_log_in_while_the_seat_changes_hands(stand: Stand) -> None:
    """The former hash is gone before anything else happens, and none replaces it until the seat answers."""
    stand.trouble_at = "answer of student3"
    with leased_to(stand, 18, state="failed"):
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


def test_an_end_by_hand_is_told_of_who_had_the_seat(stand: Stand) -> None:
    """The operator names nobody; the portal hears of the participant all the same."""
    stand.portal = Portal({})
    with leased_to(stand, 17):
        stand.order("CLEANUP", 0)
    assert stand.register.updates == [PASSWORD, COMPLETED, RELEASED, CLEANED]
    with leased_to(stand, 17):
        stand.order("PURGE", 0, workshop=None)
    assert stand.register.updates == [
        COMPLETED, ("student", "103", {"assigned": "false", "password": None}), CLEANED,
    ]  # fmt: skip


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


def test_a_cleanup_of_a_seat_that_nobody_had_keeps_nothing_for_a_reset(stand: Stand) -> None:
    """Nor when it is tried again, after the worker died in the middle of it."""
    for state in ("free", "cleaning"):
        with leased_to(stand, None, workshop=None, state=state):
            action = stand.order("CLEANUP", 17, workshop="WKSHP-Lab")
        assert (action.state, action.reason) == ("done", None)
        assert stand.register.seat_3.state == "free"


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


CREATE_SCRIPTS = ("create", "pre-templating", "post-templating", "post-copy")


def test_a_create_runs_the_site_s_scripts_in_their_order(stand: Stand) -> None:
    """Keys and programs before `create`, public before private; the content between the two around templates."""
    stand.kinds, stand.compile = CREATE_SCRIPTS, ("get-flag.shc",)
    action = stand.order("CREATE")
    assert action.state == "done", action.reason
    assert stand.done[3:-2] == [
        "compiled get-flag.shc",
        "public create-WKSHP-Welcome101.sh at /nowhere",
        "private create-WKSHP-Welcome101.sh at /nowhere",
        "content lent",
        "private pre-templating-WKSHP-Welcome101.sh at /nowhere",
        "WKSHP for seat 3",
        "private post-templating-WKSHP-Welcome101.sh at /nowhere",
        "private post-copy-WKSHP-Welcome101.sh at /nowhere",
        "desk cleared",
        "home of student3 for 2003:2003",
    ]
    assert "private create-WKSHP-Welcome101.sh" in action.phases


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (SimpleNamespace(status=3, output="a\nno such host\n\n"), "failed with status 3: no such host."),
        (SimpleNamespace(status=None, output=""), "did not end within 300 s and was stopped."),
    ],
)
def test_a_script_that_fails_ends_the_create_with_its_words(stand: Stand, ending: Any, reason: str) -> None:
    """Nothing after it runs, no server starts, nobody can log in; what was laid out is gone."""
    stand.kinds, stand.failing = CREATE_SCRIPTS, ("create", ending)
    action = stand.order("CREATE")
    assert action.state == "failed"
    assert reason in action.reason
    assert "public create-WKSHP-Welcome101.sh" in action.reason
    assert stand.done[-1] == "desk cleared"
    assert not any("private create" in step or "server" in step for step in stand.done)
    assert stand.register.seat_3.state == "failed"
    assert stand.register.hashed is None


def test_the_leaver_s_cleanup_script_runs_once_behind_closed_doors(stand: Stand) -> None:
    """After his server is gone, while his home is there; a RESET that comes later runs `reset` only."""
    stand.kinds = ("cleanup", "reset")
    with leased_to(stand, 17, workshop="WKSHP-Lab"):
        stand.order("CLEANUP", workshop="WKSHP-Lab")
        assert stand.done == [
            "hub forgets student3",
            "private cleanup-WKSHP-Lab.sh at /student/student3",
            "desk cleared",
            "completion of WKSHP-Lab of student3",
            "no appliance of seat 3",
        ]
        stand.done.clear()
        stand.order("RESET", workshop="WKSHP-Lab", ended_before=True)
        assert stand.done == [
            "hub forgets student3",
            "private reset-WKSHP-Lab.sh at /student/student3",
            "desk cleared",
            "no appliance of seat 3",
            "no home of student3",
        ]


def test_a_reset_whose_cleanup_never_came_runs_both_scripts(stand: Stand) -> None:
    """The lease is ended by it, so it does all that ends a lease."""
    stand.kinds = ("cleanup", "reset")
    with leased_to(stand, 17, workshop="WKSHP-Lab"):
        stand.order("RESET", workshop="WKSHP-Lab")
    assert [step.split()[1] for step in stand.done if step.startswith("private")] == [
        "cleanup-WKSHP-Lab.sh",
        "reset-WKSHP-Lab.sh",
    ]


def test_a_purge_runs_no_script_so_that_a_seat_can_always_be_taken_back(stand: Stand) -> None:
    """A script that always fails keeps the home of a CLEANUP, closed; PURGE and CREATE come by."""
    stand.kinds = ("cleanup", "reset")
    stand.failing = ("cleanup", SimpleNamespace(status=1, output=""))
    with leased_to(stand, 17):
        assert stand.order("CLEANUP").state == "failed"
        assert "no home of student3" not in stand.done
        assert stand.register.seat_3.state == "failed"
        assert stand.order("PURGE", workshop=None).state == "done"
    assert stand.register.seat_3.state == "free"


def test_scripts_are_told_the_password_in_secret_and_the_portal_s_names(stand: Stand) -> None:
    """`randompw` is the participant's, `wid` and `accessToken` are the portal's; one that is away stops nothing."""
    stand.kinds = ("create",)
    stand.portal = Portal({"WKSHP-Welcome101": False})
    stand.order("CREATE")
    told = stand.scripts.occasion
    assert (told.workshop_id, told.token) == ("7", "a token")
    assert stand.passwords.kept(3, 17) == told.password
    stand.portal.resets, stand.register.seat_3 = None, FREE
    assert stand.order("CREATE", customer=18).state == "done"
    assert (stand.scripts.occasion.workshop_id, stand.scripts.occasion.token) == ("", "")


# --- Appliances ---


def test_an_appliance_starts_beside_the_home_and_its_values_reach_the_notebooks(stand: Stand) -> None:
    action = stand.order("CREATE", workshop="WKSHP-Lab")
    assert action.state == "done" and action.phases[-1] == "appliance"
    assert "values {'HTTPPORT': 20003}" in stand.done
    assert stand.done.index("no appliance of seat 3") < stand.done.index("appliance of seat 3")
    stand.order("DELIVER", 0, workshop="WKSHP-Lab")
    assert stand.done.count("values {'HTTPPORT': 20003}") == 2


@pytest.mark.parametrize("step", ["appliance of seat 3", "jvm of student3"])
def test_nothing_of_an_appliance_stays_where_a_create_fails(stand: Stand, step: str) -> None:
    """Whichever of the two it is that fails; nobody can log in then."""
    stand.trouble_at = step
    assert stand.order("CREATE", workshop="WKSHP-Lab").state == "failed"
    assert stand.done[-1] == "no appliance of seat 3"
    assert stand.register.states[-1] == "failed" and stand.register.hashed is None
