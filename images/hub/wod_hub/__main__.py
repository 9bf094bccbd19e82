"""Start JupyterHub as soon as the database and the engine answer.

Without them JupyterHub would not merely fail: at its start it asks the engine for every server that it knows,
and takes a server that it cannot ask for as stopped.
"""

import os
import socket
import sys
import time
from collections.abc import Callable
from urllib.parse import urlparse

import psycopg

DATABASE = "host=/run/postgresql dbname=hub user=hub connect_timeout=3"
CONFIGURATION = "/etc/jupyterhub/jupyterhub_config.py"
PATIENCE = 10.0
"""Seconds after which we say what we wait for, again and again."""


def database_answers() -> None:
    """Raises OSError or psycopg.Error while PostgreSQL does not serve the hub's database."""
    psycopg.connect(DATABASE).close()


def engine_answers() -> None:
    """Raises OSError while nothing speaks HTTP on the socket of DOCKER_HOST."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(3)
        connection.connect(urlparse(os.environ["DOCKER_HOST"]).path)
        connection.sendall(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
        if not connection.recv(64).startswith(b"HTTP/1."):
            raise OSError("no HTTP answer")


def wait_for(name: str, ask: Callable[[], None]) -> None:
    """Return when `ask` no longer raises."""
    say_at = time.monotonic() + PATIENCE
    while True:
        try:
            return ask()
        except (OSError, psycopg.Error) as error:
            if time.monotonic() > say_at:
                print(f"Waiting for {name}: {str(error).strip()}", file=sys.stderr, flush=True)
                say_at = time.monotonic() + PATIENCE
            time.sleep(0.2)


if __name__ == "__main__":
    wait_for("the database", database_answers)
    wait_for("the engine", engine_answers)
    os.execvp("jupyterhub", ["jupyterhub", "--config", CONFIGURATION])  # noqa: S606
