"""The author's desk: `wod_desk render` keeps a workshop rendered, `wod_desk lab` is the JupyterLab that shows it.

Both stop when they are told to. The Lab lets in whoever has the token that it makes at its start and prints,
and answers only to a browser that calls this computer by a name of its own: no page of another site can
reach it by way of a name that leads here.
"""

import os
import secrets
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

DESK = Path("/author")
SOURCE = Path("/source")
DEFAULTS = Path("/usr/share/wod/conf/defaults.yml")
SETTINGS = Path("/etc/wod/settings.yml")
VALUES = Path("/etc/wod/values.yml")
KERNELS = Path("/opt/kernels/share/jupyter/kernels")


def render() -> None:
    """Show the one workshop below /source, and again after each save."""
    from notebooks_loader.preview import Preview
    from wodctl.errors import WodError

    [source] = SOURCE.iterdir()
    kernels = [path.parent.name for path in KERNELS.glob("*/kernel.json")]
    try:
        variables = _variables(source.name)
    except WodError as error:
        sys.exit(f"{error.message} {error.hint}")
    Preview(source, variables, DESK, kernels).watch(lambda line: print(line, flush=True))


def _variables(workshop: str) -> Callable[[str, int], Mapping[str, Any]]:
    """What each view is rendered with: as a delivery would, where we are told; else the settings alone."""
    import yaml

    from notebooks_loader.variables import stand_ins
    from wodctl.adapters.configuration import read_layer
    from wodctl.model import settings

    told = yaml.safe_load(VALUES.read_text())
    if told:
        _install_ssh(told["ssh"])
        return lambda mode, seat: told["views"][f"{mode} {seat}"]
    values, _ = settings.merge(
        [read_layer(DEFAULTS), read_layer(SETTINGS)], host_name="localhost", processors=1
    )
    everywhere = stand_ins(workshop) | values.variables
    return lambda mode, seat: everywhere


def _install_ssh(files: Mapping[str, str]) -> None:
    """The key of the author's appliance, and what ssh has to know of it."""
    folder = DESK / ".ssh"
    folder.mkdir(mode=0o700, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content)
        (folder / name).chmod(0o600)


def lab() -> None:
    """Serve JupyterLab on the desk."""
    from wod_lab import leave_out_the_unused

    leave_out_the_unused()
    from jupyter_server.serverapp import ServerApp
    from traitlets.config import Config

    token = secrets.token_urlsafe(24)
    server = {
        "ip": "0.0.0.0",  # noqa: S104 - of the container; the host publishes it on its loopback address only
        "port": 8888,
        "port_retries": 0,
        "allow_remote_access": False,
        "allow_root": True,  # an author may be root on his own computer; here root has no rights
        "root_dir": str(DESK),
        "default_url": "/lab",
        "open_browser": False,
        "jpserver_extensions": {"jupyterlab": True},
    }
    config = Config({"ServerApp": server, "IdentityProvider": {"token": token}})
    app = ServerApp.instance(config=config)
    app.initialize(argv=[])
    url = f"http://127.0.0.1:{os.environ['WOD_AUTHOR_PORT']}/lab?token={token}"
    app.io_loop.add_callback(print, f"Your desk: {url}", flush=True)
    app.start()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    {"render": render, "lab": lab}[sys.argv[1]]()
