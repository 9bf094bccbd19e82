"""Making documents of a seat's workshop: one container for each time, with the seat's home and nothing else."""

import os

from wodctl.adapters.containers import Containers
from wodctl.errors import ActionFailed
from wodctl.model.seat import user_name
from wodctl.model.settings import STUDENTS_DIRECTORY, Settings

SECONDS = 180.0
"""How long it may take."""

_MEMORY = 1536 * 2**20


class Exports:
    """Documents of seats' workshops, left in the home, folder `Take-home`."""

    def __init__(self, settings: Settings, containers: Containers) -> None:
        self._settings = settings
        self._containers = containers
        self._project = os.environ["WOD_PROJECT"]
        self._state = os.environ["WOD_STATE"]
        self._image = os.environ["WOD_EXPORT_IMAGE"]

    def make(self, seat: int, folder: str) -> None:
        """Make PDF, Word document and archive of a workshop in a seat's home. Raises ActionFailed or Unavailable."""
        user, home = user_name(seat), f"{STUDENTS_DIRECTORY}/{user_name(seat)}"
        name = f"{self._project}-export{seat}"
        document = {
            "Image": self._image,
            "Hostname": f"export{seat}",
            "User": f"{self._settings.UIDBASE + seat}:{self._settings.GIDBASE + seat}",
            "WorkingDir": home,
            "Cmd": [folder],
            "Labels": {"wod.project": self._project, "wod.export": str(seat)},
            "HostConfig": {
                "NetworkMode": "none",
                "Mounts": [
                    {
                        "Type": "bind",
                        "Source": f"{self._state}/data/students/{user}",
                        "Target": home,
                        "ReadOnly": False,
                    }
                ],
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges:true"],
                "CgroupnsMode": "private",
                "ReadonlyRootfs": True,
                "Tmpfs": {"/tmp": "nosuid,nodev,noexec,mode=1777,size=1g"},  # noqa: S108
                "Memory": _MEMORY,
                "MemorySwap": _MEMORY,
                "CpuPeriod": 100_000,
                "CpuQuota": 100_000,
                "CpuShares": 16,
                "PidsLimit": 64,
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
            },
        }
        try:
            self._containers.start(name, document)
            status = self._containers.wait(name, SECONDS)
            said = self._containers.output(name).strip().splitlines()
        finally:
            self._containers.ensure_absent(name)
        if status is None:
            raise ActionFailed(f"It took more than {SECONDS:.0f} s.")
        if status != 0:
            raise ActionFailed(said[-1][:500] if said else f"It ended with status {status}.")
