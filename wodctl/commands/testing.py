"""`wodctl test`: the project's own tests."""

import subprocess
import sys

import click

from wodctl.commands.site import ROOT

SIDE_BY_SIDE = ("--numprocesses=2", "--dist=loadscope", "--no-loadscope-reorder")
"""The whole suite waits for containers much of the time."""


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, metavar="[PYTEST-OPTIONS]...", type=click.UNPROCESSED)
@click.pass_context
def test(context: click.Context, words: tuple[str, ...]) -> None:
    """Run the project's own tests; words are handed to pytest.

    Without any, the journeys run beside all others.

    A report and screenshots are left in the folder `artefacts`.

    \b
    Example:
      ./wod test
      ./wod test tests/unit
    """
    artefacts = ROOT / "artefacts"
    artefacts.mkdir(exist_ok=True)
    arguments = [
        sys.executable,
        "-m",
        "pytest",
        f"--junitxml={artefacts / 'tests.xml'}",
        *(words or SIDE_BY_SIDE),
    ]
    context.exit(subprocess.run(arguments, cwd=ROOT, check=False).returncode)
