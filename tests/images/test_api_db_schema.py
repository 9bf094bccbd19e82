"""Whatever a caller sends that fits our own description, or nearly, the API does not fail on it."""

import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from tests.images.registration_site import registration_site


def explore(operation: Any, mode: GenerationMode, token: str, seen: Counter[int]) -> None:
    """Call it with what fits, or does not; fails on a server error, and on a status that is not described."""
    # A method or a path that there is not is also tried.
    allowed = set(operation.definition.raw["responses"]) | {"404", "405", "413"}

    @settings(max_examples=15, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def call(case: Any) -> None:
        answer = case.call(headers={"x-access-token": token}, allow_redirects=False)
        seen[answer.status_code] += 1
        assert answer.status_code < 500, answer.text
        assert str(answer.status_code) in allowed, (case.method, case.path, answer.status_code)

    with contextlib.suppress(Unsatisfiable):  # where there is nothing that could be wrong
        call()


def test_no_call_makes_a_server_error() -> None:
    """As an admin, who gets furthest, with what fits and what does not: only statuses that are described."""
    seen: Counter[int] = Counter()
    with registration_site("wodtestschema", Path("/var/lib/wod-test-schema")) as site:
        token = site.login("admin").body["accessToken"]
        described = schemathesis.openapi.from_url(f"{site.root}/swagger.json")
        for found in described.get_all_operations():
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                explore(found.ok(), mode, token, seen)
        assert site.call("GET", "/health").status == 200
    assert seen[200] > 50 and seen[400] > 50, seen
