"""The steps by which the database came to be what it is."""

import re
from pathlib import Path

VERSIONS = Path(__file__).resolve().parents[2] / "wodctl/adapters/migrations/versions"


def test_the_migrations_form_one_line() -> None:
    """Each follows the one before it by number, so that there is one last one, whoever wrote it."""
    found = []
    for path in sorted(VERSIONS.glob("[0-9]*.py")):
        text = path.read_text()
        revision, parent = (
            re.search(rf"^{name} = (.*)$", text, re.MULTILINE) for name in ("revision", "down_revision")
        )
        assert revision and parent and path.name.startswith(revision[1].strip('"'))
        found.append((parent[1].strip('"'), revision[1].strip('"')))
    assert found == [("None" if n == 1 else f"{n - 1:04}", f"{n:04}") for n in range(1, len(found) + 1)]
