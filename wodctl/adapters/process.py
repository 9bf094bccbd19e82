"""Runs programs: arguments as separate values, output kept for the message when one fails."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from wodctl.errors import EngineProblem


class ProgramFailed(EngineProblem):
    """A program ended with an error; `returncode` and `output` (its last words) say more."""

    def __init__(self, arguments: Sequence[str], returncode: int, output: str, *, hint: str = "") -> None:
        self.returncode = returncode
        self.output = output
        words = " ".join(arguments[:4]) + (" …" if len(arguments) > 4 else "")
        last = "\n".join(output.strip().splitlines()[-15:])
        super().__init__(
            f"`{words}` ended with code {returncode}." + (f"\n{last}" if last else ""), hint=hint
        )


def run(
    arguments: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    text: str | None = None,
    show: bool = False,
    timeout: float | None = None,
) -> str:
    """Run a program to its end and return its standard output.

    `environment` is added to ours, `text` goes to its standard input, with `show` its output appears on the
    terminal instead of being returned, `timeout` is in seconds. Raises ProgramFailed, or EngineProblem when it
    cannot be started or takes too long.
    """
    words = [str(argument) for argument in arguments]
    stream = None if show else subprocess.PIPE
    try:
        done = subprocess.run(
            words,
            env=os.environ | dict(environment or {}),
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            stdout=stream,
            stderr=stream,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise EngineProblem(
            f"The program {words[0]} is not installed.", hint="`./wod up` installs what is missing."
        ) from None
    except subprocess.TimeoutExpired:
        raise EngineProblem(f"`{' '.join(words[:4])}` did not end within {timeout:.0f} s.") from None
    if done.returncode != 0:
        # What it printed before it failed is data, and may hold what no message should show.
        raise ProgramFailed(words, done.returncode, done.stderr or "")
    return done.stdout or ""
