"""Serve the registration API: `python -m wod_api`."""

import uvicorn

from wod_api.api import create_app
from wod_api.settings import Settings
from wod_api.store import ensure_ready

CONNECTIONS = 10
"""To the database; what waits for one of them waits in order."""


def main() -> None:
    """Prepare the database, then answer until stopped."""
    settings = Settings.load()
    ensure_ready(settings)
    uvicorn.run(
        create_app(settings, CONNECTIONS),
        host="0.0.0.0",  # noqa: S104 - within its container
        port=8021,
        access_log=False,
        log_level="warning",
        # Whoever is not named here may claim what he likes to be the proxy of.
        proxy_headers=bool(settings.WODAPIDBPROXIES),
        forwarded_allow_ips=settings.WODAPIDBPROXIES or None,
        server_header=False,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=10,
        backlog=1024,
    )


if __name__ == "__main__":
    main()
