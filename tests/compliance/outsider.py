"""What attacks from outside: somebody at the published ports who has no account. He does it all beside the checks."""

import json
import secrets
import smtplib
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from http.cookiejar import CookieJar
from urllib.parse import urlencode

from tests.compliance.facts import Facts
from wodctl.model.seat import user_name
from wodctl.model.seat_pass import COOKIE

HERE = "127.0.0.1"
SECONDS = 10
TRIES = 6
RELAY_THROUGH = (
    "someone@outside.invalid",
    "someone%outside.invalid@{here}",
    "@{here}:someone@outside.invalid",
    "outside.invalid!someone@{here}",
    '"someone@outside.invalid"@{here}',
)


class Outsider:
    """`seen` says what came of each attempt, by its name."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        s = facts.settings
        self._url = f"{s.WODBEPROTO}://{HERE}:{s.WODBEPORT}"
        work: dict[str, Callable[[], str]] = {
            "relaying": self._relay,
            "wrong-sender": self._order_as_somebody_else,
            "wrong-passwords": self._guess_passwords,
            "forged-token": self._forge_token,
            "forged-pass": self._forge_pass,
        }
        self.seen: Mapping[str, Future[str]] = {name: facts.begin(one) for name, one in work.items()}

    def _relay(self) -> str:
        """Tries from an address that may send action mails: others are not even greeted."""
        seen = set()
        for pattern in RELAY_THROUGH:
            with smtplib.SMTP(HERE, self._facts.settings.WODPOSTPORT, timeout=SECONDS) as client:
                client.ehlo("outside.invalid")
                client.mail("somebody@outside.invalid")
                address = pattern.format(here=self._facts.settings.WODBEFQDN)
                code, text = client.docmd("RCPT", f"TO:<{address}>")
                seen.add("refused" if code >= 500 else f"{code} {text.decode(errors='replace')} to {address}")
        return ", ".join(sorted(seen))

    def _order_as_somebody_else(self) -> str:
        """An order that would do nothing even if it were believed, since there is no seat 0."""
        s, sender = self._facts.settings, f"check-{secrets.token_hex(6)}@outside.invalid"
        with smtplib.SMTP(HERE, s.WODPOSTPORT, timeout=SECONDS) as client:
            to = f"{s.WODUSER}@{s.WODBEFQDN}"
            client.sendmail(sender, [to], f"Subject: CLEANUP 0 0\r\n\r\nWKSHP-{sender}\r\n")
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            # Not as the operator asks, who becomes the worker for that, with all his threads.
            query = f"SELECT state || ': ' || reason FROM wod.action WHERE sender = '{sender}'"  # noqa: S608 - ours
            for said in self._facts.rows(query):
                return said
            time.sleep(0.3)
        return "it was not rejected"

    def _guess_passwords(self) -> str:
        """Of a user whom no seat has: no participant is made to pause."""
        opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(jar := CookieJar()), urllib.request.HTTPSHandler(context=_ANY)
        )
        opener.open(f"{self._url}/hub/login", timeout=SECONDS).close()
        mark = next((cookie.value for cookie in jar if cookie.name == "_xsrf"), "") or ""
        codes = []
        for _ in range(TRIES):
            form = urlencode({"username": "outsider", "password": secrets.token_hex(8), "_xsrf": mark})
            try:
                with opener.open(f"{self._url}/hub/login", form.encode(), timeout=SECONDS) as answer:
                    codes.append(answer.status)
            except urllib.error.HTTPError as answer:
                codes.append(answer.code)
        return f"answers {', '.join(map(str, codes))}"

    def _forge_token(self) -> str:
        return self._ask("/hub/api/users", {"Authorization": f"token {secrets.token_hex(16)}"})

    def _forge_pass(self) -> str:
        """A pass to a seat in use, if there is one, with a signature that he made up."""
        seats = [group for group in self._facts.groups if group.name == "seats"]
        name = user_name(self._facts.settings.WODUSERMIN)
        if seats:
            name = str(seats[0].containers[0].inspected["Config"]["Hostname"])
        forged = f"{name}.{int(time.time()) + 3600}.{secrets.token_hex(32)}"
        return self._ask(
            f"/user/{name}/api/contents", {"Cookie": f"{COOKIE}={forged}", "Accept": "application/json"}
        )

    def _ask(self, path: str, headers: dict[str, str]) -> str:
        """The status of the answer, as it is, without following where it leads."""
        opener = urllib.request.build_opener(_NoRedirect, urllib.request.HTTPSHandler(context=_ANY))
        try:
            request = urllib.request.Request(self._url + path, headers=headers)  # noqa: S310 - our own address
            with opener.open(request, timeout=SECONDS) as answer:
                return f"answer {answer.status}: {json.dumps(answer.read(80).decode(errors='replace'))}"
        except urllib.error.HTTPError as answer:
            return f"answer {answer.code}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:  # type: ignore[override]
        return None


# This very host is asked by its loopback address, for which no certificate is made.
_ANY = ssl.create_default_context()
_ANY.check_hostname = False
_ANY.verify_mode = ssl.CERT_NONE
