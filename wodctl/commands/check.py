"""`wodctl check`: whether this host's stack is as it should be, and whether what must fail does fail."""

import json
from datetime import date
from pathlib import Path

import click

from wodctl.adapters import compliance, reports
from wodctl.adapters.relay import tell_operator
from wodctl.commands.site import Site
from wodctl.commands.stack import compose_files, wanted_services
from wodctl.commands.table import table
from wodctl.errors import ConfigProblem, StackProblem
from wodctl.model.compliance import FAILED, PASSED, Finding, changes, counts, judged, not_passed

_COLORS = {"failed": "red", "waived": "yellow"}


@click.command()
@click.option(
    "--host", is_flag=True, help="Also what `host apply` put on this host, and the engine's settings."
)
@click.option("--no-attacks", is_flag=True, help="Configuration only; try nothing that has to fail.")
@click.option(
    "--junit", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write JUnit XML."
)
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write a report."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option("--mail-changes", is_flag=True, help="Mail WODMONITOR what changed since it was last told.")
@click.pass_context
def check(
    context: click.Context,
    host: bool,
    no_attacks: bool,
    junit: Path | None,
    html: Path | None,
    as_json: bool,
    mail_changes: bool,
) -> None:
    """Check everything that runs, and attack it: nothing is repaired, `wodctl up` and `host apply` do that.

    Ends with 0 only if no check failed, else with 5. What a site puts up with for a time stands with reason and
    last day in STATE/conf/waivers.yml. docs/compliance.md lists the checks.

    \b
    Examples:
      wodctl check
      wodctl check --host --html report.html --junit report.xml
      wodctl check --host --mail-changes
    """
    site: Site = context.obj
    if mail_changes and not site.settings.WODMONITOR:
        raise ConfigProblem(
            "WODMONITOR is empty, so there is nobody to tell.", hint="Set it to a mail address."
        )
    if not (site.state / "rendered" / "compose.env").exists():
        raise StackProblem(f"Nothing was started from {site.state} yet.", hint="`wodctl up` starts it.")
    site.engine.ensure_answers()
    today = date.today()
    waivers = compliance.read_waivers(site.root, site.state, today)
    found = compliance.run_suite(
        site.root, site.state, site.project, site.settings, compose_files(site), sorted(wanted_services(site)),
        host=host, attacks=not no_attacks,
    )  # fmt: skip
    findings = judged(found, waivers, today)
    if junit:
        junit.write_text(reports.junit(findings))
    if html:
        html.write_text(reports.html(findings, compliance.benchmark(site.root), site.root, site.url))
    if as_json:
        click.echo(json.dumps(reports.document(findings), indent=1))
    else:
        _print(findings)
    if mail_changes:
        _tell_changes(site, findings)
    context.exit(StackProblem.exit_code if counts(findings)[FAILED] else 0)


def _print(findings: list[Finding]) -> None:
    """A line for each check: the places where all is the same are one."""
    lines: dict[tuple[str, str, str], list[str]] = {}
    for one in findings:
        lines.setdefault((one.id, one.result, one.detail or one.promise), []).append(one.where)
    rows = [(name, result, ", ".join(places), text) for (name, result, text), places in sorted(lines.items())]
    for line, (_, result, *_) in zip(
        table(("CHECK", "RESULT", "WHERE", "WHY"), rows).splitlines(), [("", PASSED), *rows], strict=True
    ):
        click.secho(line, fg=_COLORS.get(result))
    said = ", ".join(f"{number} {result}" for result, number in counts(findings).items())
    click.secho(f"\n{said}.", fg="red" if counts(findings)[FAILED] else "green")


def _tell_changes(site: Site, findings: list[Finding]) -> None:
    """Mail what changed, and remember it once the mail was taken: a mail that could not be sent is sent next time."""
    now = not_passed(findings)
    lines = changes(compliance.former_results(site.state), now)
    if not lines:
        return
    failed = [
        f"{one.id} at {one.where}: {one.promise}\n    {one.detail}"
        for one in findings
        if one.result == FAILED
    ]
    name = site.settings.WODBEEXTFQDN
    text = "\n".join(
        [f"What `wodctl check` found on {name} differs from what it found before:", "", *lines, ""]
        + (["What fails at the moment:", "", *failed] if failed else ["Nothing fails at the moment."])
    )
    tell_operator(
        site.settings, site.state, f"Workshops-on-Demand on {name}: {len(failed)} checks fail", text + "\n"
    )
    compliance.remember_results(site.state, now)
