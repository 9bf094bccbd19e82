"""`wodctl workshop test`: a workshop's notebooks run as pretend students would run them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import click

from notebooks_loader.variables import stand_ins
from wodctl.adapters.rehearsal import Rehearsal, Run
from wodctl.commands.image import lab_for
from wodctl.commands.site import Site, pass_site
from wodctl.commands.table import table
from wodctl.errors import ContentProblem


@click.command()
@click.argument("name")
@click.option(
    "--seats", type=click.IntRange(1), default=1, show_default=True, help="Number of pretend students."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
@pass_site
def test(site: Site, name: str, seats: int, as_json: bool) -> None:
    """Run every notebook of a workshop as students would, and tell which cells fail.

    NAME is one of this site's workshops or challenges, or a workshop's folder. It is delivered to the first
    seats' pretend students, each in a container like a seat's, and all notebooks are run there with their own
    kernels. A cell that is meant to fail has the tag raises-exception, one that is not to be run
    skip-execution. No stack has to run, and none is touched. Exit code 8 if a cell failed.

    \b
    Examples:
      wodctl workshop test WKSHP-Welcome101
      wodctl workshop test ~/notebooks/WKSHP-Git101 --seats 3
    """
    folder = Path(name).resolve()
    if folder.is_dir():
        workshops, wanted = replace(site.workshops, public=folder.parent, private=None), folder.name
    else:
        workshops, wanted = site.workshops, name
    workshops = replace(workshops, stand_ins=stand_ins)
    workshop = workshops.workshop(wanted)
    mode = "CHLG" if wanted.startswith("CHLG-") else "WKSHP"
    settings = site.settings
    site.engine.ensure_answers()
    lab = lab_for(site, workshop).image
    if lab in site.builder.missing():
        click.echo(f"Building {lab} …", err=True)
        site.builder.build([lab])
    click.echo(f"Running the notebooks of {wanted} for {seats} student(s) …", err=True)
    rehearsal = Rehearsal(site.builder.tag(lab), site.state, site.project, settings, workshops)
    runs = rehearsal.run(workshop, mode, range(settings.WODUSERMIN, settings.WODUSERMIN + seats))
    if as_json:
        click.echo(
            json.dumps(
                {"workshop": workshop.name, "mode": mode, "runs": [asdict(run) for run in runs]}, indent=1
            )
        )
    else:
        _show(runs)
    bad = sum(not run.is_good for run in runs)
    if bad:
        raise ContentProblem(
            f"{bad} of {len(runs)} notebook run(s) failed.",
            hint="A cell that is meant to fail needs the tag `raises-exception`.",
        )


def _show(runs: Sequence[Run]) -> None:
    rows = [
        (
            *(str(run.seat), run.notebook, run.kernel or "-", str(run.cells), f"{run.seconds:.1f}"),
            *(_slowest(run), _result(run)),
        )
        for run in runs
    ]
    click.echo(table(("SEAT", "NOTEBOOK", "KERNEL", "CELLS", "SECONDS", "SLOWEST CELL", "RESULT"), rows))
    for run in runs:
        where = f"seat {run.seat}, {run.notebook}"
        for cell in run.failed:
            click.echo(f"{where}, cell {cell['cell']} ({cell['seconds']:.1f} s): {cell['reason']}")
        if run.problem:
            click.echo(f"{where}: {run.problem}")


def _slowest(run: Run) -> str:
    cell, seconds = max(run.timing.items(), key=lambda pair: pair[1], default=("", 0.0))
    return f"{cell} ({seconds:.1f} s)" if cell else "-"


def _result(run: Run) -> str:
    return "good" if run.is_good else f"{len(run.failed)} cell(s) failed" if run.failed else "ended early"
