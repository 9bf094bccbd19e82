"""Bring the database `wod` to the structure that this version needs: `python -m wodctl.adapters.migrations`.

A process of its own, so that the worker which runs it does not keep SQLAlchemy in memory for the rest of its
life.
"""

import sys
from pathlib import Path

from alembic import command
from alembic.config import Config

from wodctl.adapters.database import WORKER_CONNECTION


def main() -> None:
    """Run the steps that are missing; nothing happens where none is."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = sys.argv[1] if len(sys.argv) > 1 else WORKER_CONNECTION
    command.upgrade(config, "head")


if __name__ == "__main__":
    main()
