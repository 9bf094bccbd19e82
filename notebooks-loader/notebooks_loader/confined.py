"""Templates that compute, rendered by a process of their own, which is stopped when it takes too much.

No sandbox within a process can bound what `range`, a product of texts or a format with a huge width take; the
kernel can. The process starts from nothing (a fresh interpreter, no environment, nothing inherited), so that
it is safe to start from a process with threads and holds none of its secrets but the variables. It gives up
the capabilities that its starter may have: what a workshop makes us call is never called with rights over
other people's homes.
"""

import contextlib
import ctypes
import json
import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wodctl.errors import ContentProblem

if TYPE_CHECKING:
    from notebooks_loader.rendering import Source

SECONDS = 10
"""Of processor time and, twice that, of time on the clock, for all such files of a workshop together."""

MEMORY = 512 * 1024**2
"""Bytes of address space, beside four times the files' own size."""

_LARGEST_ANSWER = 512 * 1024**2


def render(sources: Sequence["Source"], variables: Mapping[str, Any]) -> list[bytes]:
    """As `notebooks_loader.rendering.render`; raises `ContentProblem` also when a limit is reached."""
    files = ", ".join(source.path for source in sources[:3]) + (", …" if len(sources) > 3 else "")
    request = pickle.dumps(([(source.path, source.content) for source in sources], dict(variables)))
    with open(os.memfd_create("answer"), "w+b") as answer:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "notebooks_loader.confined"],
                input=request,
                stdout=answer,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={"PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)},
                timeout=2 * SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise _too_much(files) from None
        if done.returncode != 0:
            raise _too_much(files)
        answer.seek(0)
        results, problem = json.load(answer)
    if problem:
        raise ContentProblem(problem[0], hint=problem[1])
    return [result.encode("utf-8", "surrogateescape") for result in results]


def _too_much(files: str) -> ContentProblem:
    return ContentProblem(
        f"Rendering {files} takes more than {SECONDS} s or {MEMORY // 1024**2} MiB: "
        "expected a template without endless loops and huge texts.",
    )


def _main() -> None:
    """Read a request from standard input, write the results or the problem to standard output, as JSON."""
    request = sys.stdin.buffer.read()
    _confine(len(request))
    from notebooks_loader.rendering import Source, render_here

    files, variables = pickle.loads(request)  # noqa: S301  # written by the process that started this one
    try:
        results = render_here([Source(path, content) for path, content in files], variables)
        answer = [[result.decode("utf-8", "surrogateescape") for result in results], None]
    except ContentProblem as problem:
        answer = [[], [problem.message, problem.hint]]
    json.dump(answer, sys.stdout)


def _confine(size: int) -> None:
    with contextlib.suppress(OSError):
        # Where memory is short, the kernel shall end this process and not the one that waits for it.
        Path("/proc/self/oom_score_adj").write_text("1000")
    for limit, most in {
        resource.RLIMIT_CPU: SECONDS,
        resource.RLIMIT_AS: MEMORY + 4 * size,
        resource.RLIMIT_FSIZE: _LARGEST_ANSWER,
        resource.RLIMIT_CORE: 0,
    }.items():
        resource.setrlimit(limit, (most, most))
    version, this_process = 0x20080522, 0
    nothing = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(version, this_process), nothing) != 0:
        raise SystemExit(1)


if __name__ == "__main__":
    _main()
