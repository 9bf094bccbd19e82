"""Whatever a caller sends that fits our own description, or nearly, the API does not fail on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from tests.images.registration_site import RegistrationSite, registration_site


@pytest.fixture(scope="module")
def site() -> Iterator[RegistrationSite]:
    with registration_site("wodtestschema", Path("/var/lib/wod-test-schema")) as made:
        yield made


@pytest.fixture
def described(site: RegistrationSite):
    return schemathesis.openapi.from_url(f"{site.root}/swagger.json")


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_call_makes_a_server_error(case, site: RegistrationSite) -> None:
    """As an admin, who gets furthest: no status from 500, and none that is not described."""
    token = site.login("admin").body["accessToken"]
    answer = case.call(headers={"x-access-token": token})
    assert answer.status_code < 500, answer.text
    assert (
        answer.status_code == 405
        or str(answer.status_code) in case.operation.definition.raw["responses"]
        or (answer.status_code in (404, 413))
    ), answer.status_code
