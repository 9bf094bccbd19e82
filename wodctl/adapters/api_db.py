"""The registration API of this host, as its operator asks it: a program in its container, JSON in and out."""

import json
from typing import Any

from wodctl.adapters import process
from wodctl.adapters.engine import Engine
from wodctl.errors import ActionFailed, StackProblem


class ApiDb:
    """The service `api-db` of a stack. Whoever may use the engine may ask it everything."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def ask(self, verb: str, **said: Any) -> Any:
        """What wod_api.operator answers. Raises StackProblem where the service does not run, ActionFailed with its
        reason where it refuses."""
        words = [
            "docker",
            "exec",
            "--interactive",
            self._container(),
            "python",
            "-m",
            "wod_api.operator",
            verb,
        ]
        answer = json.loads(process.run(words, text=json.dumps(said)))
        if isinstance(answer, dict) and "problem" in answer and set(answer) == {"problem"}:
            raise ActionFailed(str(answer["problem"]))
        return answer

    def _container(self) -> str:
        for container in self._engine.containers():
            service = container["Config"]["Labels"]["com.docker.compose.service"]
            if service == "api-db" and container["State"]["Running"]:
                return str(container["Id"])
        raise StackProblem(
            "The registration API does not run on this host.",
            hint="`wodctl up -t all` starts it beside a backend, `up -t api-db` alone.",
        )
