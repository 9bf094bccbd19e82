"""Reports of the compliance suite, for programs and for people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jinja2

from wodctl.model.compliance import FAILED, PASSED, WAIVED, Finding, counts

_KEYS = ("id", "where", "promise", "result", "detail")


def document(findings: Sequence[Finding]) -> dict[str, Any]:
    """For `--json`; attacks have what was expected and seen as well."""
    checks = []
    for one in findings:
        attack = {"expected": one.expected, "seen": one.seen} if one.expected else {}
        checks.append({key: asdict(one)[key] for key in _KEYS} | attack)
    return counts(findings) | {"checks": checks}


def junit(findings: Sequence[Finding]) -> str:
    """JUnit XML: what is waived counts as skipped."""
    tally = counts(findings)
    suite = ElementTree.Element(
        "testsuite",
        name="wodctl check",
        tests=str(len(findings)),
        failures=str(tally[FAILED]),
        skipped=str(tally[WAIVED]),
        errors="0",
        time=f"{sum(one.seconds for one in findings):.3f}",
    )
    for one in findings:
        case = ElementTree.SubElement(
            suite, "testcase", classname=one.where, name=one.id, time=f"{one.seconds:.3f}"
        )
        if one.result != PASSED:
            kind = "failure" if one.result == FAILED else "skipped"
            ElementTree.SubElement(case, kind, message=one.detail).text = one.promise
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def html(
    findings: Sequence[Finding], benchmark: Mapping[str, Mapping[str, str]], root: Path, url: str
) -> str:
    """One page that needs nothing beside itself: what failed, attacks, all checks, the benchmark."""
    items = [(item, entry["title"], _of_item(item, findings)) for item, entry in benchmark.items()]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(root / "tests" / "compliance"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        url=url,
        now=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        counts=counts(findings),
        failed=[one for one in findings if one.result == FAILED],
        attacks=[one for one in findings if one.expected],
        findings=sorted(findings, key=lambda one: (one.id, one.where)),
        items=items,
    )


def _of_item(item: str, findings: Sequence[Finding]) -> list[Finding]:
    """The findings about an item of the benchmark, the worst first."""
    order = (FAILED, WAIVED, PASSED)
    return sorted((one for one in findings if item in one.items), key=lambda one: order.index(one.result))
