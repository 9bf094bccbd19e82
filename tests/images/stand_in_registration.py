"""Stands in for the registration API of a portal: records what it is told, and answers as the original does.

Port 8021. Tokens last a second. `GET /said` tells what was asked, and with which status it was answered, `PUT
/answer/<status>` makes it answer so to everything but that, `PUT /answer/0` as it should; `PUT
/unknown/<row>` forgets that row; `PUT /lifetime/<seconds>`
is that of tokens from now on, those that were given are forgotten. A file with
other workshops may be named. Runs in a container with nothing but Python.
"""

import json
import secrets
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

WORKSHOPS: list[dict[str, Any]] = [
    {"id": 7, "notebook": "WKSHP-Sample", "location": "backend.example.net", "reset": False},
    {"id": 8, "notebook": "WKSHP-Lab", "location": "backend.example.net", "reset": True},
    {"id": 9, "notebook": "WKSHP-Ldap", "location": "backend.example.net", "reset": False, "ldap": True},
]

COLUMNS = {
    "student": {"password", "assigned"},
    "customer": {"active", "cleaned", "completionPercentage", "endDate"},
    "workshop": {"capacity"},
}
"""What a backend changes in each table. The original takes any other column for nothing; here that is an error."""

said: list[tuple[str, str, Any]] = []
unknown: set[str] = set()
statuses: list[int] = []
status = [0]
lifetime = [1.0]
tokens: dict[str, float] = {}
rows: dict[str, dict[str, Any]] = {}
one_at_a_time = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    """One request of the worker, or of the test."""

    def answer(self) -> None:
        """Do as the API does with users, workshops, students and customers."""
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.removeprefix("/api/").strip("/")
        with one_at_a_time:
            if path == "said":
                return self.say(200, {"said": said, "rows": rows, "statuses": statuses, "tokens": [*tokens]})
            if path.startswith("answer/"):
                status[0] = int(path.partition("/")[2])
                return self.say(200, {})
            if path.startswith("lifetime/"):
                lifetime[0] = float(path.partition("/")[2])
                tokens.clear()
                return self.say(200, {})
            if path.startswith("unknown/"):
                unknown.add(path.partition("/")[2])
                return self.say(200, {})
            body = json.loads(content or b"null")
            said.append((self.command, path, body))
            if status[0]:
                return self.say(status[0], {"message": "as you wish"})
            return self.serve(path, body)

    do_GET = do_POST = do_PUT = answer

    def serve(self, path: str, body: Any) -> None:
        """Answer as it should."""
        if path == "login":
            if body != {"username": "moderator", "password": "the-password"}:
                return self.say(401, {"accessToken": None, "message": "Invalid Password!"})
            token = secrets.token_hex(32)
            tokens[token] = time.monotonic()
            return self.say(200, {"id": 1, "roles": ["ROLE_MODERATOR"], "accessToken": token})
        if (
            path != "workshops"
            and time.monotonic() - tokens.get(self.headers["x-access-token"], -9e9) > lifetime[0]
        ):
            return self.say(401, {"message": "Unauthorized!"})
        if path == "workshops":
            return self.say(200, WORKSHOPS)
        kind, _, number = path.partition("/")
        if kind not in COLUMNS or not number.isdigit() or self.command != "PUT":
            return self.say(404, {"message": f"Cannot {self.command} {self.path}"})
        if (
            not isinstance(body, dict)
            or not body
            or not all(isinstance(value, str) for value in body.values())
        ):
            return self.say(400, {"error": {}})
        if path in unknown or set(body) - COLUMNS[kind]:
            return self.say(400, {"error": {}})
        rows.setdefault(path, {}).update(body)
        return self.say(200, rows[path])

    def say(self, code: int, body: Any) -> None:
        """Answer with JSON."""
        if len(statuses) < len(said):
            statuses.append(code)
        content = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


if __name__ == "__main__":
    if sys.argv[1:]:
        WORKSHOPS = json.loads(Path(sys.argv[1]).read_text())
    ThreadingHTTPServer(("", 8021), Handler).serve_forever()
