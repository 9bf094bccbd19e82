"""Answer the proxy until the end."""

import asyncio
from pathlib import Path

from wod_doorman.door import serve

KEY = Path("/run/secrets/seat-key")
PORT = 8100

if __name__ == "__main__":
    asyncio.run(serve(KEY.read_text().strip(), PORT))
