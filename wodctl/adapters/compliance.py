"""The compliance suite, tests/compliance, run by pytest with testinfra in this very process."""

import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import date
from io import StringIO
from pathlib import Path
from typing import Any

import yaml

from wodctl.errors import ConfigProblem, EngineProblem, StackProblem
from wodctl.model.compliance import FAILED, PASSED, WAIVED, Finding, Waiver
from wodctl.model.settings import Settings

SUITE = "tests/compliance"
PRIVATE = "compliance"
"""Folder of a private repository with a site's own checks: check_*.py, as ours are."""

WAIVERS = "conf/waivers.yml"
"""Below the state directory: what the site puts up with."""


def run_suite(
    root: Path,
    state: Path,
    project: str,
    settings: Settings,
    files: Sequence[str],
    services: Sequence[str],
    *,
    host: bool = False,
    attacks: bool = True,
) -> list[Finding]:
    """Run all checks of ours and of the site; with `host` those of the host, with `attacks` those that try what must
    fail. Changes nothing that lasts. Raises EngineProblem where pytest is not installed, StackProblem if the
    suite itself fails."""
    try:
        import pytest  # noqa: F401 - both are of the extra `check`
        import testinfra  # noqa: F401
    except ImportError:
        raise EngineProblem(
            "pytest and pytest-testinfra are not installed in this Python environment.",
            hint="`./wod check` installs them there; a plain `wodctl` does not.",
        ) from None
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    facts_of = importlib.import_module("tests.compliance.facts").Facts
    fixtures_of = importlib.import_module("tests.compliance.fixtures").Fixtures
    facts = facts_of(root, state, project, settings, files, services)
    suites = [root / SUITE, *_private_suite(settings)]
    try:
        findings = findings_of(root, suites, fixtures_of(facts, attacks=attacks), host=host, attacks=attacks)
    finally:
        facts.close()
    return _with_benchmark(root, findings, host=host)


def findings_of(
    root: Path,
    suites: Sequence[Path],
    fixtures: Any,
    *,
    host: bool,
    attacks: bool,
    connection: str = "local://",
) -> list[Finding]:
    """Run these checks; `connection` is the host that testinfra looks at. Raises StackProblem if they cannot be run."""
    import pytest

    collector = _Collector(host=host, attacks=attacks)
    words = ["-c", str(root / SUITE / "pytest.ini"), f"--hosts={connection}", *map(str, suites)]
    said = StringIO()
    with redirect_stdout(said):
        code = pytest.main(words, plugins=[collector, fixtures])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or not collector.findings:
        last = "\n".join(said.getvalue().splitlines()[-25:])
        raise StackProblem(f"The checks could not be run.\n{last}", hint="A private check may be at fault.")
    return collector.findings


def benchmark(root: Path) -> dict[str, dict[str, str]]:
    """The items of the CIS Docker Benchmark that concern us: title, and where no check proves it, why that is."""
    return dict(yaml.safe_load((root / SUITE / "cis.yml").read_text()))


def read_waivers(root: Path, state: Path, today: date) -> list[Waiver]:
    """Ours, which are decisions and have no end, then the site's. Raises ConfigProblem naming the file."""
    own = [
        _waiver(entry, "ours", by_design=True)
        for entry in yaml.safe_load((root / SUITE / "waivers.yml").read_text())
    ]
    file = state / WAIVERS
    if not file.exists():
        return own
    try:
        entries = yaml.safe_load(file.read_text()) or []
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigProblem(f"{file} is no YAML: {error}") from None
    if not isinstance(entries, list):
        raise ConfigProblem(f"{file}: expected a list of waivers.", hint=_WAIVER_FORM)
    return [_waiver(entry, f"{file}, entry {n}", by_design=False) for n, entry in enumerate(entries, 1)] + own


def former_results(state: Path) -> dict[str, str]:
    """What did not pass when somebody was last told; nothing before the first time."""
    try:
        return dict(json.loads((state / "checked.json").read_text()))
    except FileNotFoundError:
        return {}


def remember_results(state: Path, results: Mapping[str, str]) -> None:
    """Keep them for the next comparison."""
    fresh = state / "checked.json.new"
    fresh.write_text(json.dumps(dict(results), indent=1) + "\n")
    fresh.replace(state / "checked.json")


_WAIVER_FORM = (
    "Each is `check`, `reason`, `expires` (as 2027-01-31), and `where` unless it is meant everywhere."
)


def _waiver(entry: Any, origin: str, *, by_design: bool) -> Waiver:
    if not isinstance(entry, dict) or not set(entry) <= {"check", "reason", "expires", "where"}:
        raise ConfigProblem(f"{origin}: this is no waiver.", hint=_WAIVER_FORM)
    expires = entry.get("expires")
    whole = all(isinstance(entry.get(name), str) and entry[name].strip() for name in ("check", "reason"))
    if not whole or not (by_design or type(expires) is date):
        raise ConfigProblem(f"{origin}: check, reason or expires is missing.", hint=_WAIVER_FORM)
    return Waiver(entry["check"], " ".join(entry["reason"].split()), entry.get("where"), expires)


def _private_suite(settings: Settings) -> list[Path]:
    folder = Path(settings.WODPRIVDIR) / PRIVATE
    return [folder] if settings.WODPRIVDIR and folder.is_dir() else []


def _with_benchmark(root: Path, findings: list[Finding], *, host: bool) -> list[Finding]:
    """The findings, and those items of the benchmark that no check of this run proves, waived by name."""
    proved = {item for one in findings for item in one.items}
    more = [
        Finding(
            f"cis/{item}", _section(item), entry["title"], WAIVED, " ".join(entry["reason"].split()), (item,)
        )
        for item, entry in benchmark(root).items()
        if item not in proved and entry.get("reason") and (host or not item.startswith("2."))
    ]
    return findings + more


def _section(item: str) -> str:
    return {"2": "engine", "4": "images", "5": "containers"}[item.partition(".")[0]]


class _Collector:
    """A plugin of pytest that turns its reports into findings and prints nothing."""

    def __init__(self, *, host: bool, attacks: bool) -> None:
        self.findings: list[Finding] = []
        self._left_out = {name for name, wanted in (("host", host), ("attack", attacks)) if not wanted}
        self._known: dict[str, Finding] = {}

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        """Leave out what was not asked for; note of the rest what it promises."""
        out = [item for item in items if self._left_out & {mark.name for mark in item.iter_markers()}]
        if out:
            config.hook.pytest_deselected(items=out)
            items[:] = [item for item in items if item not in out]
        for item in items:
            self._known[item.nodeid] = _as_finding(item)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """One finding for each check: that of its call, or of its preparation where that failed."""
        if report.when == "teardown" or (report.when == "setup" and report.passed):
            return
        known = self._known[report.nodeid]
        properties = dict(report.user_properties)
        result = PASSED if report.passed else WAIVED if report.skipped else FAILED
        if report.failed:
            detail = _first_line(report)
        elif report.skipped:
            detail = "Does not apply: " + str(report.longrepr[2]).removeprefix("Skipped: ") + "."
        else:
            detail = ""
        self.findings.append(
            replace(
                known, result=result, detail=detail, seen=properties.get("seen", ""), seconds=report.duration
            )
        )


def _as_finding(item: Any) -> Finding:
    """`check_mail.py::test_it_relays_nothing[a]` is the check `mail/it-relays-nothing` at `a`."""
    folder = item.path.stem.removeprefix("check_")
    marks = tuple(number for mark in item.iter_markers("cis") for number in mark.args)
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    if "attempt" in parameters:
        one = parameters["attempt"]
        return Finding(
            f"{folder}/{one.name}", one.where, one.promise, FAILED, items=marks, expected=one.expected
        )
    name = item.originalname.removeprefix("test_").replace("_", "-")
    where = folder if "containers" not in parameters else str(parameters["containers"])
    promise = (item.function.__doc__ or name).strip().split("\n\n")[0]
    return Finding(f"{folder}/{name}", where, " ".join(promise.split()), FAILED, items=marks)


def _first_line(report: Any) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr)
    lines = text.removeprefix("AssertionError: ").removeprefix("Failed: ").strip().splitlines()
    return lines[0][:600] if lines else "it failed"
