"""What the compliance suite finds, and what of it a site puts up with for a time, for a reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

PASSED, FAILED, WAIVED = "passed", "failed", "waived"


@dataclass(frozen=True)
class Finding:
    """One check at one place. `detail` says what is wrong, or why it is put up with; `items` are those of the CIS
    benchmark that it proves. Of an attack, `expected` and `seen` say what should have happened, and did."""

    id: str
    where: str
    promise: str
    result: str
    detail: str = ""
    items: tuple[str, ...] = ()
    expected: str = ""
    seen: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Waiver:
    """A failure that is known: of a check, everywhere or at one place, for a reason, until a day (None: by design)."""

    check: str
    reason: str
    where: str | None = None
    expires: date | None = None

    def covers(self, finding: Finding) -> bool:
        """Whether it is about this finding, expired or not."""
        return self.check == finding.id and self.where in (None, finding.where)


def judged(findings: Sequence[Finding], waivers: Sequence[Waiver], today: date) -> list[Finding]:
    """The findings, with those waived that a waiver covers; one that has expired says so and waives nothing."""
    return [_judged(finding, waivers, today) for finding in findings]


def _judged(finding: Finding, waivers: Sequence[Waiver], today: date) -> Finding:
    if finding.result != FAILED:
        return finding
    detail = finding.detail
    for waiver in waivers:
        if not waiver.covers(finding):
            continue
        if waiver.expires is None or today <= waiver.expires:
            until = f" (until {waiver.expires})" if waiver.expires else ""
            return replace(finding, result=WAIVED, detail=f"{waiver.reason}{until}")
        detail += f" [waived until {waiver.expires}: {waiver.reason}]"
    return replace(finding, detail=detail)


def counts(findings: Sequence[Finding]) -> dict[str, int]:
    """How many of each result."""
    return {result: sum(one.result == result for one in findings) for result in (PASSED, FAILED, WAIVED)}


def not_passed(findings: Sequence[Finding]) -> dict[str, str]:
    """What a run is compared by: the result of each check that did not pass, by `id at where`."""
    return {f"{one.id} at {one.where}": one.result for one in findings if one.result != PASSED}


def changes(former: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What differs between two runs, a line each."""
    names = sorted(set(former) | set(now))
    return [
        f"{name}: {former.get(name, PASSED)} before, {now.get(name, PASSED)} now"
        for name in names
        if former.get(name, PASSED) != now.get(name, PASSED)
    ]
