"""The service that keeps in the host's packet filter where seats may go outside (images/firewall/wod-egress)."""

import json
import socket
from collections.abc import Sequence
from pathlib import Path

from wodctl.errors import ActionFailed, Unavailable
from wodctl.model.appliance import SeatPlan

SOCKET = Path("/run/egress/egress.sock")

PATIENCE = 60.0
"""Seconds for the answer: names that nobody knows take their time."""

LONGEST_ANSWER = 64 * 1024


class Egress:
    """The policies of the seats of this plan."""

    def __init__(self, plan: SeatPlan, where: Path = SOCKET) -> None:
        self._plan = plan
        self._where = where

    def allow(self, seat: int, places: Sequence[str] | None) -> list[str]:
        """From now on this seat's server and appliance reach these places outside and no other; None: all.

        Returns the names that have no address at the moment. In force when this returns. Raises Unavailable while
        the service is away, ActionFailed where it does not take the policy.
        """
        question = {
            "addresses": [self._plan.seat_address(seat), self._plan.appliance_address(seat)],
            "allowed": None if places is None else list(places),
        }
        try:
            said = self._ask(json.dumps(question).encode() + b"\n")
            answer = json.loads(said)
        except (OSError, ValueError) as error:
            raise Unavailable(
                f"The service egress does not answer: {error}.", hint="`wodctl status` shows the services."
            ) from None
        if "problem" in answer:
            raise ActionFailed(f"Where seat {seat} may go could not be settled: {answer['problem']}.")
        return [str(name) for name in answer["unknown"]]

    def _ask(self, question: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(self._where))
            connection.sendall(question)
            heard = b""
            while len(heard) < LONGEST_ANSWER and (piece := connection.recv(4096)):
                heard += piece
        return heard
