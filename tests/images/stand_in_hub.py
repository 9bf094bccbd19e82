"""Stands in for the hub and the proxy of a worker under test: starts nothing, but answers as they do.

Port 8081 is the hub's API, 8001 the proxy. `GET /said` on either tells what was asked, `PUT
/slowness/<seconds>` sets how long a start takes, `PUT /broken/<user>` whose start fails. Runs in a container
with nothing but Python.
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

running: dict[str, bool] = {}
said: list[str] = []
slowness = [0.05]
broken = ["nobody"]
three_at_a_time = threading.Semaphore(3)


class Handler(BaseHTTPRequestHandler):
    """One request of the worker, or of the test."""

    def answer(self) -> None:
        """Do as the hub does with users and servers."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        place, _, name = self.path.strip("/").removeprefix("hub/api/").partition("/")
        user, _, server = name.partition("/")
        if place == "said":
            return self.say(200, json.dumps({"said": said, "running": running}))
        if place == "slowness":
            slowness[0] = float(name)
            return self.say(200)
        if place == "broken":
            broken[0] = name
            return self.say(200)
        said.append(f"{self.command} {place}/{name}")
        if place == "user":
            return self.say(200 if running.get(user) else 424)
        if self.headers["Authorization"] != "token the-token":
            return self.say(403, json.dumps({"message": "Forbidden"}))
        if self.command == "POST" and not server:
            known = user in running
            running.setdefault(user, False)
            return self.say(409 if known else 201)
        if user not in running:
            return self.say(404, json.dumps({"message": "Not Found"}))
        if self.command == "POST":
            return self.start(user)
        if server:
            running[user] = False
        else:
            running.pop(user, None)
        return self.say(204)

    do_GET = do_POST = do_DELETE = do_PUT = answer

    def start(self, user: str) -> None:
        """Start a server, or fail as the hub does."""
        if running[user]:
            return self.say(400, json.dumps({"message": f"{user} is already running"}))
        if user == broken[0]:
            return self.say(500, json.dumps({"message": "no image"}))
        with three_at_a_time:
            time.sleep(slowness[0])
        running[user] = True
        return self.say(201)

    def say(self, status: int, body: str = "") -> None:
        """Answer."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


if __name__ == "__main__":
    for port in (8001, 8081):
        threading.Thread(target=ThreadingHTTPServer(("", port), Handler).serve_forever).start()
