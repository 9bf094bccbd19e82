"""Answer the proxy until the end."""

import asyncio
import json
from http import HTTPStatus
from pathlib import Path

from wod_doorman.away import SENTENCES, headers, page
from wod_doorman.door import serve, written

KEY = Path("/run/secrets/seat-key")
SETTINGS = Path("/etc/wod/settings.json")
PORT = 8100


def main() -> None:
    settings = json.loads(SETTINGS.read_text())
    name, color = settings["BRANDING"], settings["BRANDINGCOLOR"]
    pages = {
        f"/away/{what}": written(HTTPStatus.OK, headers(color), page(what, name, color).encode())
        for what in SENTENCES
    }
    asyncio.run(serve(KEY.read_text().strip(), pages, PORT))


if __name__ == "__main__":
    main()
