"""Servers: seat n gets a container of its own, closed in, and is ready the moment its server answers."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import docker
from dockerspawner import DockerSpawner
from jupyterhub.utils import url_path_join
from tornado import web
from tornado.httpclient import AsyncHTTPClient
from tornado.simple_httpclient import HTTPStreamClosedError
from traitlets import Instance, Integer, Unicode, default

from wodctl.model.appliance import SeatPlan, read_definitions

STUDENTS = "/student"
"""Directory of the homes, as servers see it."""

READY_TIMEOUT = 120
"""Seconds that a server has from its container's start to its answer."""

STEP = 0.015
"""Seconds between two looks at a port that does not answer yet."""

ALIVE_CHECK = 1.0
"""Seconds between two looks at whether a container that does not answer still runs."""

CPU_SHARES = 16
"""Of 1024 that a service has: sixty busy seats together weigh about as much as the hub or the database alone."""


class SeatSpawner(DockerSpawner):
    """Starts `student<n>`'s server as the container `<project>-student<n>`, as that seat and in its limits.

    At most `starts` servers start at the same time, the others wait their turn: each start takes a processor
    for its whole duration, so that more at once would make everybody wait for the last.
    """

    project = Unicode(help="Name of the Compose project that the servers belong to.").tag(config=True)
    homes = Unicode(help="Directory on the host with the seats' homes.").tag(config=True)
    title = Unicode(help="What the site is called, in the title of the browser's window.").tag(config=True)
    uid_base = Integer(help="Seat n has the uid uid_base + n.").tag(config=True)
    gid_base = Integer(help="Seat n has the gid gid_base + n.").tag(config=True)
    first_seat = Integer(1, help="The first seat of this backend.").tag(config=True)
    last_seat = Integer(100, help="The last seat of this backend.").tag(config=True)
    network = Unicode(help="Addresses of the seats' network, as 10.213.0.0/20.").tag(config=True)
    definitions = Instance(Path, help="Folder with the definitions of appliances.").tag(config=True)
    pids_limit = Integer(512, help="Processes and threads of one seat.").tag(config=True)
    starts = Integer(3, help="Servers that may be starting at the same time.").tag(config=True)

    _turns: asyncio.Semaphore | None = None
    _executor = ThreadPoolExecutor(16, thread_name_prefix="engine")

    @property
    def plan(self) -> SeatPlan:
        """Addresses of seats and appliances."""
        network = IPv4Network(self.network)
        return SeatPlan(self.project, network, self.first_seat, self.last_seat, self.uid_base, self.gid_base)

    @cached_property
    def seat(self) -> int:
        """The number of the seat."""
        return int(self.user.name.removeprefix("student"))

    @property
    def home(self) -> str:
        """The seat's home, as its server sees it."""
        return f"{STUDENTS}/{self.user.name}"

    @default("prefix")
    def _prefix(self) -> str:
        return self.project

    @default("network_name")
    def _network(self) -> str:
        return f"{self.project}_seats"

    @default("extra_create_kwargs")
    def _create_options(self) -> dict[str, Any]:
        return {
            "hostname": self.user.name,
            "user": f"{self.uid_base + self.seat}:{self.gid_base + self.seat}",
            "working_dir": self.home,
            "labels": {"wod.project": self.project, "wod.seat": str(self.seat)},
            "networking_config": {
                "EndpointsConfig": {
                    self.network_name: {"IPAMConfig": {"IPv4Address": self.plan.seat_address(self.seat)}}
                }
            },
        }

    @default("extra_host_config")
    def _host_options(self) -> dict[str, Any]:
        owner = f"uid={self.uid_base + self.seat},gid={self.gid_base + self.seat}"
        return {
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
            "cgroupns": "private",
            "read_only": True,
            # Memory of the seat, like everything else it takes; programs may be compiled and run in /tmp.
            "tmpfs": {
                "/tmp": "exec,nosuid,nodev,mode=1777",  # noqa: S108
                "/run": f"nosuid,nodev,mode=0755,{owner}",
                "/var/lib/extrausers": f"nosuid,nodev,mode=0755,size=64k,{owner}",
            },
            "memswap_limit": self.mem_limit,
            "pids_limit": self.pids_limit,
            "cpu_shares": CPU_SHARES,
            "log_config": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
            # By name, whether or not the seat has it: what it has may change while the server runs.
            "extra_hosts": {
                definition.host_name: self.plan.appliance_address(self.seat)
                for definition in read_definitions(self.definitions)
            },
        }

    @default("mounts")
    def _home_mount(self) -> list[dict[str, Any]]:
        # A mount and not a volume: for a home that does not exist the engine then refuses, where it would
        # otherwise make one that belongs to root.
        return [{"type": "bind", "source": f"{self.homes}/{self.user.name}", "target": self.home}]

    def get_env(self) -> dict[str, str]:
        """JupyterHub's variables for this one server, and who and where it is; nothing of the hub's own."""
        who = {"HOME": self.home, "USER": self.user.name, "LOGNAME": self.user.name}
        return super().get_env() | who | {"WOD_TITLE": self.title}

    async def get_command(self) -> None:
        """The image's own."""

    async def start(self) -> str:
        """Start the server when it is its turn, and return its URL once it answers there."""
        cls = type(self)
        if cls._turns is None:
            cls._turns = asyncio.Semaphore(self.starts)
        async with cls._turns:
            began = time.monotonic()
            ip, port = await super().start()
            running = time.monotonic()
            url = f"http://{ip}:{port}"
            await self._until_answering(ip, port)
            self.log.info(
                "%s: container in %.3f s, server in %.3f s",
                self.user.name,
                running - began,
                time.monotonic() - running,
            )
            return url

    async def _until_answering(self, ip: str, port: int) -> None:
        """Wait in short steps for the port, then for the server behind it; HTTPError if there is none."""
        deadline = time.monotonic() + READY_TIMEOUT
        look_at = time.monotonic() + ALIVE_CHECK
        while not (await self._is_open(ip, port) and await self._answers(ip, port, deadline)):
            now = time.monotonic()
            if now > deadline:
                raise web.HTTPError(500, f"The server did not answer within {READY_TIMEOUT} seconds.")
            if now > look_at:
                ended = await self.poll()
                if ended is not None:
                    raise web.HTTPError(500, "The server ended before it answered.")
                look_at = now + ALIVE_CHECK
            await asyncio.sleep(STEP)

    async def _answers(self, ip: str, port: int, deadline: float) -> bool:
        """Whether the server answers to HTTP. One that hangs up may have ended; the caller finds that out."""
        try:
            await AsyncHTTPClient().fetch(
                f"http://{ip}:{port}" + url_path_join(self.server.base_url, "api"),
                request_timeout=max(1.0, deadline - time.monotonic()),
            )
        except (OSError, HTTPStreamClosedError):
            return False
        return True

    @staticmethod
    async def _is_open(ip: str, port: int) -> bool:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(ip, port), timeout=1)
        except OSError:
            return False
        writer.close()
        return True

    async def poll(self) -> int | str | None:
        """None while the server runs, else how it ended. What a former hub left half started ends here."""
        if self.object_id:
            return await super().poll()
        if await self.get_object():
            await self.remove_object()
        return 0

    async def get_url(self) -> str:
        """Where the running server is: asked by a hub that was restarted."""
        ip, port = await self.get_ip_and_port()
        return f"http://{ip}:{port}{self.server.base_url}"

    async def remove_object(self) -> None:
        """Remove the container, running or not; when this returns its name is free."""
        try:
            await self.docker("remove_container", self.object_id, v=True, force=True)
        except docker.errors.NotFound:
            return
        except docker.errors.APIError as error:
            if error.status_code != 409:
                raise
        # 409: the engine is removing it already, because it ended.
        while await self.get_object():
            await asyncio.sleep(STEP)
