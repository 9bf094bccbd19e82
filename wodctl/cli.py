"""The command `wodctl`: a list of commands, and the one place where an error becomes a message and an exit code."""

import errno
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NoReturn

import click

from wodctl.commands import (
    action,
    api_db,
    appliance,
    author,
    backup,
    ban,
    bench,
    check,
    config,
    deliver,
    host,
    image,
    mail,
    notebooks,
    rebrand,
    registration,
    stack,
    student,
    testing,
    user,
    watchdog,
    workshop,
)
from wodctl.commands.site import Site, state_directory
from wodctl.errors import WodError

UNEXPECTED = 70
"""Exit code of a failure that we did not foresee (EX_SOFTWARE of sysexits.h)."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--state",
    metavar="DIR",
    envvar="WOD_STATE",
    callback=state_directory,
    help="Where the site's data live (default: /var/lib/wod for root, else ~/.local/state/wod). [env: WOD_STATE]",
)
@click.option(
    "--project",
    metavar="NAME",
    envvar="WOD_PROJECT",
    default="wod",
    show_default=True,
    help="Name of the stack; several run side by side. [env: WOD_PROJECT]",
)
@click.version_option(package_name="wodctl")
@click.pass_context
def wodctl(context: click.Context, state: Path, project: str) -> None:
    """Workshops-on-Demand: seats for hands-on workshops, on one host.

    \b
    A first look:
      wodctl up                                          start everything
      wodctl action submit CREATE 3 0 -w WKSHP-Welcome101 --wait
      wodctl student password 3                          and log in as student3
    """
    context.obj = Site(state, project)


for command in (
    stack.up,
    stack.down,
    stack.status,
    stack.logs,
    image.build,
    appliance.build_appliance,
    appliance.images,
    appliance.appliance,
    action.action,
    student.student,
    watchdog.watchdog,
    ban.ban,
    workshop.workshop,
    notebooks.notebooks,
    registration.registration,
    mail.mail,
    user.user,
    api_db.api_db,
    deliver.deliver,
    config.config,
    check.check,
    bench.bench,
    author.author,
    rebrand.rebrand,
    backup.backup,
    backup.restore,
    host.host,
    testing.test,
):
    wodctl.add_command(command)


def main() -> NoReturn:
    """Run the command line; never shows a traceback, and ends with the exit code of the error's kind."""
    try:
        code = wodctl.main(standalone_mode=False, prog_name="wodctl")
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _say("stopped.", "")
        code = 130
    except WodError as error:
        _say(error.message, error.hint)
        code = error.exit_code
    except BrokenPipeError:
        # Whoever read our output has gone; nothing may be written at the end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except OSError as error:
        code = _say_system_error(error)
    except Exception:
        with tempfile.NamedTemporaryFile("w", prefix="wodctl-", suffix=".txt", delete=False) as report:
            traceback.print_exc(file=report)
        _say(
            "something went wrong that should not.", f"The details are in {report.name}; please report them."
        )
        code = UNEXPECTED
    sys.exit(code if isinstance(code, int) else 0)


def _say(message: str, hint: str) -> None:
    click.echo(click.style("wodctl: ", fg="red") + message, err=True)
    if hint:
        click.echo(hint, err=True)


def _say_system_error(error: OSError) -> int:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno == errno.ENOSPC:
        _say(f"The disk is full{where}.", "Make room and run the same command again; nothing is half-done.")
    elif error.errno in (errno.EACCES, errno.EPERM):
        _say(f"This user has no permission{where}.", "Run it as root, or with --state DIR below your home.")
    else:
        _say(f"{error.strerror or error}{where}.", "")
    return 1
