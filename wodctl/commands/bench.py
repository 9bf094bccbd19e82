"""`wodctl bench`: how fast and how dense this host is, measured on the running stack."""

import http.client
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from wodctl.adapters.api_db import ApiDb
from wodctl.adapters.database import connect_as_operator
from wodctl.adapters.definitions import Definitions
from wodctl.adapters.delivery_trial import DENSE, DeliveryTrial
from wodctl.adapters.engine import Engine
from wodctl.adapters.portal import send_action_mail
from wodctl.commands.site import Site, pass_site
from wodctl.commands.table import table
from wodctl.errors import ActionFailed, EngineProblem, StackProblem, Unavailable

FIRST_CUSTOMER = 900_000_000
"""Customers of the measurements; no portal counts that far."""

SETTLED_AFTER = 20.0
"""Seconds until a server that was just started has done what it does once."""

DEADLINE = 600.0
"""Seconds after which a measurement is given up."""


@dataclass(frozen=True)
class Result:
    """One line: `n` values with their median, 95th percentile and maximum in `unit`."""

    name: str
    unit: str
    n: int
    median: float
    p95: float
    max: float

    @classmethod
    def of(cls, name: str, unit: str, values: Sequence[float]) -> "Result":
        """The line for these values."""
        ordered = sorted(values)
        p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
        return cls(
            name, unit, len(ordered), *(round(v, 3) for v in (statistics.median(ordered), p95, ordered[-1]))
        )


class Measurement:
    """Measures on the running stack, with seats that are free, and gives them back."""

    def __init__(self, site: Site, workshop: str) -> None:
        self.site = site
        self.workshop = workshop
        self.database = connect_as_operator(site.state)
        self.customer = FIRST_CUSTOMER + int(time.time()) % 10_000_000 * 10

    def create(self) -> list[Result]:
        """One CREATE after the other: seconds from the mail's acknowledgement until the seat's server has answered."""
        seats = self._free_seats(9)
        waits = [self._create([seat])[0] for seat in seats]
        return [Result.of("create", "s", waits), Result.of("cleanup", "s", self._clean(seats))]

    def appliances(self) -> list[Result]:
        """Seats with an appliance, the workshop's or each that is built: five CREATE one by one, ten at once."""
        found = []
        built = Definitions(self.site.state).all()
        for definition in [one for one in built if one.workshop == self.workshop] or built:
            self.workshop = definition.workshop
            seats = self._free_seats(10)
            one_by_one = [self._create([seat])[0] for seat in seats[:5]]
            self._clean(seats[:5])
            at_once = self._create(seats)
            self._clean(seats)
            found += [
                Result.of(f"create {definition.name}", "s", one_by_one),
                Result.of(f"create {definition.name}, 10 at once", "s", at_once),
            ]
        return found

    def burst(self) -> list[Result]:
        """Ten and fifty CREATE mails at once: each seat's wait; the maximum is when all are ready."""
        found = []
        for count in (10, 50):
            seats = self._free_seats(count)
            found.append(Result.of(f"create, {count} at once", "s", self._create(seats)))
            self._clean(seats)
        return found

    def mails(self) -> list[Result]:
        """Two hundred mails at once, five leases of each of twenty seats: acknowledged when, carried out when.

        Raises ActionFailed if one is lost, doubled or not carried out.
        """
        seats, leases = self._free_seats(20), 5
        customers = {seat: [self.customer + 1000 * seat + n for n in range(leases)] for seat in seats}
        sent: dict[tuple[str, int], tuple[float, float]] = {}
        before = max((a.id for a in self.database.actions(only_rejected=False, limit=1)), default=0)

        def send_all(seat: int) -> None:
            for customer in customers[seat]:
                for action in ("CREATE", "CLEANUP"):
                    begun = time.time()
                    acknowledged = send_action_mail(self.site.settings, action, seat, customer, self.workshop)
                    sent[action, customer] = begun, acknowledged

        with ThreadPoolExecutor(len(seats)) as pool:
            list(pool.map(send_all, seats))
        deadline = time.monotonic() + DEADLINE
        while True:
            found = [a for a in self.database.actions(only_rejected=False, limit=1000)
                     if a.id > before and (a.action, a.customer) in sent]  # fmt: skip
            if len(found) >= len(sent) and all(a.finished for a in found):
                break
            if time.monotonic() > deadline:
                raise ActionFailed(f"{len(sent)} mails were not carried out within {DEADLINE:.0f} s.")
            time.sleep(0.3)
        wrong = [a for a in found if a.state != "done"]
        if wrong or len(found) != len(sent):
            raise ActionFailed(
                f"{len(sent)} mails became {len(found)} actions; {len(wrong)} of them are not done.",
                hint=f"`wodctl action show {(wrong or found)[0].id}` tells of one.",
            )
        self.customer += 10 * max(seats)
        waits = [
            a.finished.timestamp() - sent[str(a.action), a.customer or 0][1] for a in found if a.finished
        ]
        name = f"mail {{}}, {len(sent)} at once"
        return [
            Result.of(name.format("acknowledged"), "s", [end - begun for begun, end in sent.values()]),
            Result.of(name.format("carried out"), "s", waits),
        ]

    def seats(self) -> list[Result]:
        """Two thousand seats made known to the site, and given up again."""
        settings = self.site.settings
        first, last = settings.WODUSERMIN, settings.WODUSERMAX
        start = time.monotonic()
        self.database.ensure_seats(first, max(last, first + 1999))
        spent = time.monotonic() - start
        self.database.ensure_seats(first, last)
        return [Result.of("2000 seats ensured", "s", [spent])]

    def delivery(self) -> list[Result]:
        """Ten notebooks and 5 MB into homes beside the students': by us, and by ansible-core in the same run.

        Needs no running stack. Notebooks are compared byte for byte. ansible-core is that of PATH or of our own
        Python (the tests' requirements bring it), else it is installed for the moment; without a way to do that,
        its lines are missing.
        """
        homes = self.site.state / "data" / "students"
        folder = homes if os.access(homes, os.W_OK) else Path(tempfile.gettempdir())
        with DeliveryTrial.prepared(folder, self.site.settings) as trial:
            one = Result.of("delivery, one seat", "ms", [trial.seconds(seat) * 1000 for seat in range(1, 51)])
            dense = [trial.seconds(seat, DENSE) * 1000 for seat in range(1, 51)]
            one_dense = Result.of("delivery, one seat, 665 expressions a notebook", "ms", dense)
            hundred = Result.of("delivery, 100 seats", "s", [trial.seconds_of_all(100) for _ in range(3)])
            memory = Result.of("delivery, memory at most", "MiB", [trial.peak_memory() / 2**20])
            try:
                theirs = [trial.seconds_of_ansible(seat) for seat in range(1, 4)]
            except EngineProblem as problem:
                click.echo(f"Not compared with ansible-core: {problem.message}", err=True)
                return [one, one_dense, hundred, memory]
        ansible = Result.of("delivery by ansible-core, one seat", "s", theirs)
        ratio = Result.of(
            "delivery, times as fast as ansible-core", "x", [ansible.median * 1000 / one.median]
        )
        return [one, one_dense, hundred, memory, ansible, ratio]

    def memory(self) -> list[Result]:
        """Memory of idle seats and of all services, without page cache that the kernel can drop."""
        seats = self._free_seats(3)
        self._create(seats)
        time.sleep(SETTLED_AFTER)
        used = [self.site.engine.memory_of_seat(seat) / 2**20 for seat in seats]
        services = [service.memory_bytes or 0 for service in self.site.engine.services()]
        self._clean(seats)
        return [
            Result.of("memory, idle seat", "MiB", used),
            Result.of("memory, services", "MiB", [sum(services) / 2**20]),
        ]

    def images(self) -> list[Result]:
        """Size of each image of the stack."""
        builder = self.site.builder
        sizes = {name: self.site.engine.image_size(builder.tag(name)) / 1e6 for name in builder.images()}
        return [Result.of(f"image {name}", "MB", [size]) for name, size in sizes.items()]

    def registration(self) -> list[Result]:
        """500 registrations from ten connections at full speed, for 400 places, at an API of its own."""
        with _Registrar(self) as registrar, ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(registrar.register, range(500)))
        given = [seat for _, seat in answers if seat is not None]
        if len(given) != 400 or len(set(given)) != 400:
            raise ActionFailed(
                f"{len(given)} seats were given for 400 places, {len(set(given))} different ones."
            )
        return [Result.of("registration, burst", "s", [seconds for seconds, _ in answers])]

    def up(self) -> list[Result]:
        """`up` from images that are built, after a `down`, until all services are healthy."""
        busy = [seat.number for seat in self.database.seats() if seat.state != "free"]
        if busy:
            raise StackProblem(
                f"Seat {busy[0]} is in use, and measuring `up` would stop it.",
                hint="Try when all seats are free.",
            )
        words = [
            sys.executable,
            "-m",
            "wodctl",
            "--state",
            str(self.site.state),
            "--project",
            self.site.project,
        ]
        spent = []
        for _ in range(3):
            self._run([*words, "down"])
            start = time.monotonic()
            self._run([*words, "up"])
            spent.append(time.monotonic() - start)
        return [Result.of("up, images built", "s", spent)]

    def _run(self, words: list[str]) -> None:
        done = subprocess.run(words, cwd=self.site.root, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StackProblem(f"`wodctl {words[-1]}` failed: {done.stderr.strip()}")

    def _free_seats(self, count: int) -> list[int]:
        free = [seat.number for seat in self.database.seats() if seat.state == "free"]
        if len(free) < count:
            raise StackProblem(
                f"{count} free seats are needed, {len(free)} are free.",
                hint="Raise WODUSERMAX, or try later.",
            )
        return free[-count:]

    def _create(self, seats: Sequence[int]) -> list[float]:
        return self._act("CREATE", seats)

    def _clean(self, seats: Sequence[int]) -> list[float]:
        return self._act("CLEANUP", seats)

    def _act(self, action: str, seats: Sequence[int]) -> list[float]:
        """Send one mail for each seat, all at once; the seconds from 250 to the end, seat by seat."""

        def send(seat: int) -> float:
            return send_action_mail(self.site.settings, action, seat, self.customer + seat, self.workshop)

        with ThreadPoolExecutor(min(len(seats), 20)) as pool:
            acknowledged = dict(zip(seats, pool.map(send, seats), strict=True))
        return [finished - acknowledged[seat] for seat, finished in self._ended(action, seats).items()]

    def _ended(self, action: str, seats: Sequence[int]) -> dict[int, float]:
        """When the action of each seat had ended. Raises ActionFailed if one did not do what it should."""
        deadline = time.monotonic() + DEADLINE
        wanted = {self.customer + seat: seat for seat in seats}
        while time.monotonic() < deadline:
            found = {wanted[a.customer]: a for a in self.database.actions(only_rejected=False, limit=200)
                     if a.customer in wanted and a.action == action and a.finished}  # fmt: skip
            if len(found) == len(seats):
                wrong = [a for a in found.values() if a.state != "done"]
                if wrong:
                    raise ActionFailed(
                        f"{action} of seat {wrong[0].seat} {wrong[0].state}: {wrong[0].reason}"
                    )
                self.customer += 10 * len(seats) if action == "CLEANUP" else 0
                return {seat: found[seat].finished.timestamp() for seat in seats}  # type: ignore[union-attr]
            time.sleep(0.2)
        raise ActionFailed(f"{action} of {len(seats)} seats did not end within {DEADLINE:.0f} s.")


class _Registrar:
    """A registration API that is started for a measurement, and removed with its data afterwards."""

    PORT = 18021

    def __init__(self, measurement: Measurement) -> None:
        self._site = measurement.site
        self._state = self._site.state / "bench"
        self._project = f"{self._site.project}bench"

    def __enter__(self) -> "_Registrar":
        self._wodctl("up", "-t", "api-db")
        seats = {"name": "bench.invalid", "proto": "http", "port": 8000, "base": 0, "first": 1, "last": 400}
        places = {
            "name": "Bench",
            "notebook": "WKSHP-Bench",
            "active": True,
            "capacity": 400,
            "range": [1, 400],
        }
        ApiDb(Engine(self._project)).ask("update-catalogue", backends=[seats], workshops=[places])
        return self

    def __exit__(self, *_: object) -> None:
        self._wodctl("down", "--volumes", "--yes")
        shutil.rmtree(self._state, ignore_errors=True)

    def register(self, number: int) -> tuple[float, int | None]:
        """Register somebody; the seconds until the answer, and the seat. Raises Unavailable for any other answer."""
        said = {
            "name": "Bench",
            "email": f"bench{number}@example.net",
            "title": "Bench",
            "termsAndConditions": True,
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.PORT, timeout=60)
        begun = time.monotonic()
        connection.request("POST", "/api/customer", json.dumps(said), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content, spent = answer.read(), time.monotonic() - begun
        connection.close()
        if answer.status not in (200, 202):
            raise Unavailable(f"A registration was answered with status {answer.status}.")
        return spent, json.loads(content)["studentId"] if answer.status == 200 else None

    def _wodctl(self, *words: str) -> None:
        settings = {
            "WODAPIDBPORT": str(self.PORT),
            "WODAPIDBRATE": "0",
            "WODBEFQDN": "bench.invalid",
            "WODTYPE": "api-db",
        }
        done = subprocess.run(
            [sys.executable, "-m", "wodctl", "--state", str(self._state), "--project", self._project, *words],
            cwd=self._site.root, env=os.environ | settings, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise StackProblem(f"The API to be measured could not be prepared: {done.stderr.strip()}")


MEASUREMENTS: dict[str, Callable[[Measurement], list[Result]]] = {
    "create": Measurement.create,
    "burst": Measurement.burst,
    "mails": Measurement.mails,
    "seats": Measurement.seats,
    "delivery": Measurement.delivery,
    "memory": Measurement.memory,
    "images": Measurement.images,
    "appliances": Measurement.appliances,
    "registration": Measurement.registration,
    "up": Measurement.up,
}


NAMED = ("appliances", "registration", "up")
"""What is measured only when it is named: it takes long, or disturbs."""


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", type=click.Choice(list(MEASUREMENTS)))
@click.option("-w", "--workshop", default="WKSHP-Welcome101", show_default=True, help="Workshop to deliver.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@pass_site
def bench(site: Site, names: tuple[str, ...], workshop: str, as_json: bool) -> None:
    """Measure this host with real action mails on free seats: create, burst, mails, seats, delivery, memory,
    images; appliances, registration and up only when named.

    `appliances` makes seats with the workshop's appliance, or with every one that is built: five one by one, and
    ten at once. `up` stops the stack and starts it again, three times, and is refused while a seat is in use.
    `registration` starts a registration API of its own for the measurement.

    \b
    Examples:
      wodctl bench
      wodctl bench create burst --json
      wodctl bench appliances -w WKSHP-Docker101
    """
    results: list[Result] = []
    for name in names or [name for name in MEASUREMENTS if name not in NAMED]:
        click.echo(f"Measuring {name} …", err=True)
        results += MEASUREMENTS[name](Measurement(site, workshop))
    if as_json:
        click.echo(
            json.dumps({"machine": _machine(), "results": [asdict(result) for result in results]}, indent=1)
        )
        return
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    click.echo(
        f"{os.cpu_count()} processors ({_processor()}), {memory:.0f} GiB, Linux {platform.release()}\n"
    )
    rows = [[r.name, str(r.n), f"{r.median:.2f}", f"{r.p95:.2f}", f"{r.max:.2f}", r.unit] for r in results]
    click.echo(table(["WHAT", "N", "MEDIAN", "P95", "MAX", ""], rows))


def _machine() -> dict[str, object]:
    return {
        "processors": os.cpu_count(),
        "model": _processor(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
