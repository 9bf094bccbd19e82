"""What an original's registration database holds: read from a dump of PostgreSQL, or from its live REST API.

Passwords are left out as they are read.
"""

import http.client
import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from wodctl.errors import ContentProblem, Unavailable

Rows = dict[str, list[dict[str, Any]]]

TABLES = {
    "locations": "locations",
    "workshops": "workshops",
    "students": "students",
    "customers": "customers",
    "special_badges": "special-badges",
}
"""The tables, and the paths under which its API shows them."""

_COPY = re.compile(r'COPY (?:\w+\.)?"?(\w+)"? \((.*)\) FROM stdin;')
_ESCAPE = re.compile(r"\\([bfnrtv\\])")
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
_LARGEST_ANSWER = 50 * 2**20


def rows_of_dump(path: Path) -> Rows:
    """The rows of a plain dump, as `pg_dump` writes it. Raises ContentProblem for a file that is none."""
    found: Rows = {}
    rows: list[dict[str, Any]] | None = None
    columns: list[str] = []
    with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
        for line in lines:
            line = line.removesuffix("\n")
            if rows is None:
                begin = _COPY.fullmatch(line)
                if begin and begin[1] in TABLES:
                    columns = [name.strip().strip('"') for name in begin[2].split(",")]
                    rows = found.setdefault(begin[1], [])
            elif line == "\\.":
                rows = None
            else:
                values = [None if value == "\\N" else _plain(value) for value in line.split("\t")]
                rows.append(_without_password(dict(zip(columns, values, strict=False))))
    if "workshops" not in found:
        raise ContentProblem(
            f"{path} has no table of workshops.",
            hint="Expected a plain dump with COPY statements: `pg_dump --format=plain DATABASE > FILE`.",
        )
    return found


def rows_of_api(api: str, user: str, password: str) -> Rows:
    """The rows that a live API shows to that user, a moderator or an admin. Raises Unavailable."""
    login = _call(f"{api}/login", None, {"username": user, "password": password})
    token = str(login.get("accessToken")) if isinstance(login, dict) else ""
    found: Rows = {}
    for table, path in TABLES.items():
        rows = _call(f"{api}/{path}", token, None)
        if not isinstance(rows, list):
            raise Unavailable(f"{api}/{path} gave no list.")
        found[table] = [_without_password(row) for row in rows if isinstance(row, dict)]
    return found


def _call(url: str, token: str | None, body: dict[str, str] | None) -> Any:
    headers = {"Content-Type": "application/json"} | ({"x-access-token": token} if token else {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310 - the command takes http and https
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return json.loads(answer.read(_LARGEST_ANSWER))
    except urllib.error.HTTPError as refusal:
        raise Unavailable(
            f"{url} was answered with status {refusal.code}.",
            hint="Is the user a moderator there, the password right?",
        ) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unavailable(f"{url} does not answer as it should: {getattr(error, 'reason', error)}.") from None


def _plain(value: str) -> str:
    """A value of COPY's text format without its escapes."""
    return _ESCAPE.sub(lambda match: _ESCAPED[match[1]], value)


def _without_password(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "password"}
