"""The participant's JupyterLab: jupyterhub-singleuser, started without what no seat uses.

A stock start spends two of its three seconds on imports that serve nothing here: the hub's own database
layer, a second HTTP client, checkers of exotic text formats, the installer of lab extensions. The packages
behind them are left out of the environment (excludes.txt), and this module stands in for the few names that
JupyterHub and JupyterLab still import from them. What decides about access, HubOAuth and the intersection
of scopes, is JupyterHub's own code, unchanged.

The stand-ins lean on the inside of jupyterhub, jupyterlab and jupyter_server: those are pinned, and
tests/images/test_lab.py asks every endpoint that JupyterLab uses.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True)
class HubResponse:
    """What JupyterHub reads of an answer of the hub: the part of aiohttp's interface that it uses."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes

    async def text(self) -> str:
        return self.body.decode()


async def fetch(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    data: bytes | str | None = None,
    raise_for_status: bool = True,
) -> HubResponse:
    """Ask the hub, by Tornado's client, which the server has loaded anyway.

    Raises tornado.httpclient.HTTPError where the hub answers with an error (unless `raise_for_status`
    is false), and OSError where it does not answer. TLS between hub and seat, an option of JupyterHub,
    is not served.
    """
    from tornado.httpclient import AsyncHTTPClient

    answer = await AsyncHTTPClient().fetch(
        url, method=method, headers=headers, body=data, raise_error=raise_for_status
    )
    return HubResponse(answer.code, answer.reason, answer.headers, answer.body)


def stand_in(name: str, **contents: object) -> None:
    """Make `import name` give a module with nothing but `contents`; any other use is an AttributeError."""
    module = ModuleType(name, "Left out of this server, see wod_lab.")
    module.__path__ = []
    vars(module).update(contents)
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], child, module)


def leave_out_the_hub() -> None:
    """Stand in for the modules of the hub that the single-user server imports and never calls."""
    import jupyterhub  # noqa: F401 - the parent of the names below

    stand_in("sqlalchemy", func=None, inspect=None)
    stand_in("sqlalchemy.exc", SQLAlchemyError=type("SQLAlchemyError", (Exception,), {}))
    stand_in("jupyterhub.orm")
    stand_in("jupyterhub.roles")
    stand_in("jupyterhub.handlers")
    stand_in("jupyterhub.handlers.pages", HealthCheckHandler=type("HealthCheckHandler", (), {}))
    stand_in("jupyterhub.metrics", prometheus_log_method=lambda handler: None)
    stand_in("jupyterhub.httpclient", fetch=fetch)
    stand_in("aiohttp")


def leave_out_the_unused() -> None:
    """Stand in for parts of JupyterLab and Jupyter Server that this image's configuration switches off."""
    stand_in("notebook_shim")
    stand_in("notebook_shim.shim", NotebookConfigShimMixin=type("NotebookConfigShimMixin", (), {}))
    stand_in("jupyterlab.extensions.pypi", PyPIExtensionManager=None)  # the extension manager is read-only
    stand_in("requests")  # lists of blocked extensions, fetched by jupyterlab_server
    stand_in("websocket", WebSocket=None)  # gateways to kernels elsewhere


def name_the_window() -> None:
    """Let the browser's window be called as the site is (WOD_TITLE), where it would be JupyterLab."""
    from jupyterlab.labapp import LabApp

    LabApp.app_name = os.environ.get("WOD_TITLE") or LabApp.app_name


def main() -> None:
    """Run the server until it is told to stop; everything it needs to know is in the environment."""
    leave_out_the_hub()
    leave_out_the_unused()
    name_the_window()
    from jupyterhub.singleuser.extension import JupyterHubSingleUser

    JupyterHubSingleUser.launch_instance()


if __name__ == "__main__":
    main()
