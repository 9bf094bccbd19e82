"""`wodctl test`: the project's own tests."""

import subprocess
import sys

import click

from wodctl.commands.site import ROOT


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, metavar="[PYTEST-OPTIONS]...", type=click.UNPROCESSED)
@click.pass_context
def test(context: click.Context, words: tuple[str, ...]) -> None:
    """Run the project's own tests; the words are handed to pytest.

    A report and screenshots are left in the folder `artefacts`.

    \b
    Example:
      ./wod test
      ./wod test tests/unit
    """
    artefacts = ROOT / "artefacts"
    artefacts.mkdir(exist_ok=True)
    arguments = [sys.executable, "-m", "pytest", f"--junitxml={artefacts / 'tests.xml'}", *words]
    context.exit(subprocess.run(arguments, cwd=ROOT, check=False).returncode)
