"""The worker: carries out the actions that wait in the database. `python -m wodctl.worker`.

With the words `password N`, beside the worker that works: gives seat N the password that is on standard input.

It may be killed at any moment. Its jobs stay in the database as "doing" then, and the next worker, which can
only be one at a time, begins them again. That is also what it does itself when it loses the database: it
ends, is started again by the engine, waits for the database and goes on.
"""

import asyncio
import ctypes
import ipaddress
import itertools
import logging
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NoReturn

import psycopg
import psycopg_pool

from wodctl.actions.carry_out import carry_out, fan_out
from wodctl.actions.leases import collect_orphans, end_leases
from wodctl.actions.password import give_password
from wodctl.actions.site import Site
from wodctl.actions.take_home import export
from wodctl.actions.tell import tell
from wodctl.actions.watchdogs import Watchdogs
from wodctl.adapters.appliances import APPLIANCES_ELSEWHERE, Appliances, Elsewhere, Everything
from wodctl.adapters.containers import Containers
from wodctl.adapters.database import WORKER_CONNECTION, Database
from wodctl.adapters.directory import Directory
from wodctl.adapters.egress import Egress
from wodctl.adapters.exports import Exports
from wodctl.adapters.homes import Homes
from wodctl.adapters.hub import Hub
from wodctl.adapters.labs import Labs
from wodctl.adapters.machines import MACHINES_OPENED, Machines, Opened
from wodctl.adapters.passwords import Passwords
from wodctl.adapters.queue import Duties, Queue, QueueLost
from wodctl.adapters.registration import Registration, trust
from wodctl.adapters.scripts import Place, Scripts
from wodctl.adapters.workshops import Workshops
from wodctl.errors import Unavailable, WodError
from wodctl.model.appliance import SeatPlan
from wodctl.model.settings import STUDENTS_DIRECTORY, Settings

SETTINGS = Path("/etc/wod/settings.json")
HUB_TOKEN = Path("/run/secrets/hub-token")
VAULT_PASSWORD = Path("/run/secrets/vault-password")
API_PASSWORD = Path("/run/secrets/api-password")
LDAP_PASSWORD = Path("/run/secrets/ldap-password")
FIXED_PASSWORD = Path("/run/secrets/fixed-password")
AUTHORITIES = Path("/etc/wod/ca.crt")
SEAT_KEY = Path("/run/secrets/seat-key")
ELSEWHERE = Path("/run/gate/elsewhere")
MACHINE_KEY = Path("/run/secrets/machine-key")
MACHINE_HOSTS = Path("/run/secrets/machine-hosts")
WORKSHOPS = Path("/srv/workshops/public")
PRIVATE = Path("/srv/private")
FETCHED = Path("/srv/repositories")
SKELETON = Path("/usr/share/wod/skel")
DEFINITIONS = Path("/etc/wod/appliances")
ROUTES = Path("/var/lib/traefik")
ALIVE = Path("/run/wod/alive")
"""Touched every second by a worker that reaches its database; the health check looks at its age."""

CONCURRENCY = 16
"""Actions carried out at the same time: enough to keep the hub busy, which starts a few servers at a time."""

POLL = 0.2
"""Seconds until a job is seen whose seat has become free; a new one is announced by the database."""

GRACE = 20.0
"""Seconds that running actions have to end when the worker is asked to stop."""

SOLE_WORKER = 0x776F_6477
"""Key of the advisory lock ("wodw") that the working worker holds."""

log = logging.getLogger("wod")


def main() -> None:
    """Prepare the database and work until SIGTERM; exit code 1 when the database is lost."""
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stdout)
    logging.getLogger("procrastinate").setLevel(logging.WARNING)
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    _keep_rights_from_children()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _wait_for_database()
    subprocess.run([sys.executable, "-m", "wodctl.adapters.migrations"], check=True)
    try:
        asyncio.run(_work(Settings.from_json(SETTINGS)))
    except (psycopg.OperationalError, QueueLost, Unavailable) as error:
        sys.exit(f"the database is lost: {error}")


def _keep_rights_from_children() -> None:
    """Our rights over others' files are for us: no program that we start inherits them (capabilities(7))."""
    pr_cap_ambient, clear_all = 47, 4
    ctypes.CDLL(None).prctl(pr_cap_ambient, clear_all, 0, 0, 0)


def _wait_for_database() -> None:
    said = False
    while True:
        try:
            psycopg.connect(WORKER_CONNECTION).close()
            return
        except psycopg.OperationalError as error:
            if not said:
                log.info("waiting for the database: %s", str(error).strip().splitlines()[0])
            said = True
            time.sleep(0.3)


def _site(settings: Settings, pool: psycopg_pool.ConnectionPool) -> Site:
    database = Database(pool.connection)
    students = Path(STUDENTS_DIRECTORY)
    public = FETCHED / "public" / "current" if settings.WODNOBOREPO else WORKSHOPS
    private = FETCHED / "private" / "current" if settings.WODPRIVREPO else PRIVATE
    workshops = Workshops(settings, public, private, SKELETON, [VAULT_PASSWORD], Labs.told(os.environ))
    return Site(
        settings=settings,
        seats=database,
        actions=database,
        hub=Hub(HUB_TOKEN.read_text().strip(), SEAT_KEY.read_text().strip()),
        homes=Homes(students),
        workshops=workshops,
        scripts=Scripts(settings, workshops, Containers(), Place.of(os.environ)),
        appliances=_appliances(settings),
        egress=Egress(_plan(settings)),
        passwords=Passwords(students),
        registration=_registration(settings) if settings.WODAPIDB else None,
        directory=_directory(settings) if settings.WODLDAPSRVNAME else None,
        fixed_password=FIXED_PASSWORD.read_text().strip() or None,
    )


def _connections() -> psycopg_pool.ConnectionPool:
    return psycopg_pool.ConnectionPool(WORKER_CONNECTION, min_size=0, max_size=4, kwargs={"autocommit": True})


def _watchdogs(settings: Settings, pool: psycopg_pool.ConnectionPool) -> Watchdogs:
    return Watchdogs(
        settings,
        register=Database(pool.connection),
        servers=Hub(HUB_TOKEN.read_text().strip(), SEAT_KEY.read_text().strip()),
        containers=Containers(),
        disk=Homes(Path(STUDENTS_DIRECTORY)),
        project=os.environ["WOD_PROJECT"],
    )


def _plan(settings: Settings) -> SeatPlan:
    return SeatPlan(
        project=os.environ["WOD_PROJECT"],
        network=ipaddress.IPv4Network(os.environ["WOD_SEAT_SUBNET"]),
        first_seat=settings.WODUSERMIN,
        last_seat=settings.WODUSERMAX,
        uid_base=settings.UIDBASE,
        gid_base=settings.GIDBASE,
    )


def _appliances(settings: Settings) -> Everything:
    plan = _plan(settings)
    hosts = {
        host.name: Containers(ELSEWHERE / host.name / "docker.sock", host=host.name)
        for host in settings.docker_hosts
    }
    return Everything(
        Appliances(
            Containers(),
            DEFINITIONS,
            ROUTES,
            plan,
            settings.seat_origin,
            elsewhere=Elsewhere(hosts, Path(STUDENTS_DIRECTORY) / APPLIANCES_ELSEWHERE),
            starts=settings.WODSEATSTARTS,
        ),
        Machines(settings.WODUSER, MACHINE_KEY, MACHINE_HOSTS),
        Opened(Path(STUDENTS_DIRECTORY) / MACHINES_OPENED),
        settings.variables,
    )


def _registration(settings: Settings) -> Registration:
    elsewhere = f"{settings.WODAPIDBEXTPROTO}://{settings.WODAPIDBEXTFQDN}:{settings.WODAPIDBEXTPORT}/api"
    return Registration(
        "http://api-db:8021/api" if settings.WODTYPE == "all" else elsewhere,
        settings.WODAPIDBUSER,
        API_PASSWORD.read_text().strip(),
        settings.WODBEEXTFQDN,
        trust(AUTHORITIES, any_certificate=settings.WODCURLOPT == "-k"),
    )


def _directory(settings: Settings) -> Directory:
    return Directory(
        settings.WODLDAPSRVNAME,
        settings.WODLDAPPORT,
        settings.WODLDAPDMN,
        settings.WODLDAPSETUPUSER,
        settings.WODLDAPBINDDN,
        LDAP_PASSWORD.read_text().strip(),
        AUTHORITIES,
    )


def password(number: int) -> None:
    """Give a seat the password that is on standard input; the exit code and one line on standard error tell."""
    try:
        with _connections() as pool:
            give_password(number, sys.stdin.readline().strip(), _site(Settings.from_json(SETTINGS), pool))
    except WodError as error:
        print(error.message, error.hint, sep="\n", file=sys.stderr)
        sys.exit(error.exit_code)


async def _work(settings: Settings) -> NoReturn:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(CONCURRENCY))
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    guard = await psycopg.AsyncConnection.connect(WORKER_CONNECTION, autocommit=True)
    await _become_sole_worker(guard)
    with _connections() as pool:
        site = _site(settings, pool)
        Database(pool.connection).ensure_seats(settings.WODUSERMIN, settings.WODUSERMAX)
        # In this order: a script that still runs has a home that is about to go.
        site.scripts.ensure_tidy()
        Homes(Path(STUDENTS_DIRECTORY)).ensure_tidy()
        duties = Duties(
            carry_out=partial(carry_out, site=site),
            fan_out=partial(fan_out, site=site),
            tell=partial(tell, site),
            end_leases=partial(end_leases, site),
            watch=_watchdogs(settings, pool).make_round,
            export=partial(export, record=Database(pool.connection), exports=Exports(settings, Containers())),
        )
        queue = Queue(WORKER_CONNECTION, duties)
        async with queue.opened():
            await loop.run_in_executor(None, collect_orphans, site)
            await queue.take_up_abandoned()
            if site.registration:
                await queue.tell()
            working = asyncio.create_task(queue.work(CONCURRENCY, POLL))
            watching = asyncio.create_task(_watch(guard, queue))
            stopping = asyncio.create_task(asked_to_stop.wait())
            log.info("at work")
            ended, _ = await asyncio.wait({working, watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done():
                log.info("asked to stop: running actions have %.0f s to end", GRACE)
                working.cancel()
                await asyncio.wait({working}, timeout=GRACE)
            else:
                log.error("starting again: %s", ", ".join(repr(task.exception()) for task in ended))
            # At once, and whatever still runs: nothing may go on that another worker begins again.
            logging.shutdown()
            os._exit(0 if stopping.done() else 1)


async def _become_sole_worker(guard: psycopg.AsyncConnection) -> None:
    """Wait until no other worker is connected to this database; ours we are until `guard` is closed."""
    while True:
        row = await (await guard.execute("SELECT pg_try_advisory_lock(%s)", [SOLE_WORKER])).fetchone()
        if row and row[0]:
            return
        ALIVE.touch()
        await asyncio.sleep(0.2)


async def _watch(guard: psycopg.AsyncConnection, queue: Queue) -> None:
    """Show that we live, and look after jobs adrift; ends with an exception when the database is lost."""
    for second in itertools.count():
        await guard.execute("SELECT 1")
        ALIVE.touch()
        if second % 5 == 0:
            await queue.take_up_adrift()
        await asyncio.sleep(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["password"]:
        password(int(sys.argv[2]))
    else:
        main()
