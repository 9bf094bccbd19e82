"""The images of the services, and the folders that they are built from (section 4 of the benchmark)."""

import re

import pytest

from tests.compliance.facts import Facts, Group

OLDEST_DAYS = 90


@pytest.mark.cis("4.6")
def test_it_can_tell_whether_it_is_well(facts: Facts, containers: Group) -> None:
    """The engine knows how to ask it whether it is well."""
    if containers.name not in facts.services:
        pytest.skip("seats, appliances and jobs are looked after by the worker")
    found = [
        one for one in containers.containers if not one.inspected["Config"].get("Healthcheck", {}).get("Test")
    ]
    assert not found, "there is no health check"


@pytest.mark.cis("4.7", "4.9")
def test_dockerfiles_install_what_they_have_just_looked_up(facts: Facts) -> None:
    """No Dockerfile fetches by ADD, and lists of packages are never older than what is installed by them."""
    wrong = []
    for path in sorted((facts.root / "images").rglob("*Dockerfile")):
        text = re.sub(r"\\\n", " ", path.read_text())
        lines = text.splitlines()
        wrong += [f"{path.relative_to(facts.root)}: ADD" for line in lines if re.match(r"ADD\s", line)]
        alone = [
            line
            for line in lines
            if "apt-get" in line and " update" in line and not re.search(r"install|upgrade", line)
        ]
        wrong += [f"{path.relative_to(facts.root)}: update alone" for _ in alone]
    assert not wrong, "; ".join(wrong)


@pytest.mark.cis("4.11")
def test_python_packages_are_pinned_by_hash(facts: Facts) -> None:
    """Every Python package that goes into an image is pinned with the hash of its file."""
    wrong = []
    for path in sorted((facts.root / "images").rglob("requirements*.lock")):
        text = re.sub(r"\\\n", " ", path.read_text())
        wrong += [
            f"{path.relative_to(facts.root)}: {line.split()[0]}"
            for line in text.splitlines()
            if re.match(r"[A-Za-z0-9]", line) and "--hash=sha256:" not in line
        ]
    assert not wrong, "; ".join(wrong)
