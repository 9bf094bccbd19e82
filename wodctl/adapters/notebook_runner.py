"""Runs the notebooks of a delivered workshop one after the other, each with its own kernel: inside of a lab image.

This file is not imported but sent to a seat's Python, which has nbclient. Its words are the workshop's folder
and the notebooks in it; for each notebook it writes one line of JSON to standard output: see `run`.
"""

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

CELL_SECONDS = 300
"""Seconds that one cell may take."""

_TAG = "raises-exception"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LONGEST = 400


def main(folder: Path, names: list[str]) -> None:
    """Run the notebooks and write what became of each."""
    # Kernels inherit the standard output and may write to it whatever they like: the results go another way.
    with os.fdopen(os.dup(1), "w") as results:
        os.dup2(2, 1)
        for name in names:
            start = time.monotonic()
            outcome = run(folder / name)
            outcome["seconds"] = round(time.monotonic() - start, 3)
            print(json.dumps({"notebook": name} | outcome), file=results, flush=True)


def run(path: Path) -> dict[str, Any]:
    """Run one notebook: `kernel`, number of `cells` that ran, those that `failed`, and a `problem` that ended it.

    `timing` has the seconds of each cell that ran, by its number from 1.

    A cell that fails does not end it, as it does not for a participant. One with the tag `raises-exception`
    may fail.
    """
    import nbformat
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient import NotebookClient
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    outcome: dict[str, Any] = {"kernel": "", "cells": 0, "timing": {}, "failed": [], "problem": None}
    here = {"cell": 0, "since": 0.0}

    def begin(cell: Any, cell_index: int) -> None:
        here.update(cell=cell_index + 1, since=time.monotonic())

    def end(cell: Any, cell_index: int, execute_reply: Any) -> None:
        outcome["cells"] += 1
        seconds = round(time.monotonic() - here["since"], 3)
        outcome["timing"][cell_index + 1] = seconds
        content = execute_reply["content"]
        if content["status"] == "error" and _TAG not in cell.metadata.get("tags", []):
            outcome["failed"].append(
                {"cell": cell_index + 1, "reason": _reason(content, cell), "seconds": seconds}
            )

    try:
        notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
        outcome["kernel"] = notebook.metadata.get("kernelspec", {}).get("name", "python3")
        client = NotebookClient(
            notebook,
            timeout=CELL_SECONDS,
            allow_errors=True,
            kernel_name=outcome["kernel"],
            resources={"metadata": {"path": str(path.parent)}},
            on_cell_execute=begin,
            on_cell_executed=end,
        )
        client.execute()
    except CellTimeoutError:
        outcome["problem"] = f"Cell {here['cell']} did not end within {CELL_SECONDS} s."
    except DeadKernelError:
        outcome["problem"] = f"The kernel died in cell {here['cell']}."
    except NoSuchKernel:
        outcome["problem"] = f"The image has no kernel {outcome['kernel']!r}."
    except Exception as error:
        outcome["problem"] = f"{type(error).__name__}: {_short(str(error))}"
    return outcome


def _reason(content: Any, cell: Any) -> str:
    """What went wrong: the exception, or of a shell the code that it ended with and what it said last."""
    if content.get("ename"):
        return _short(f"{content['ename']}: {content.get('evalue', '')}")
    said = "".join(output.get("text", "") for output in cell.outputs if output.output_type == "stream")
    last = said.strip().splitlines()[-1:] or ["no output"]
    return _short(f"ended with code {content.get('evalue') or '?'}: {last[0]}")


def _short(text: str) -> str:
    text = " ".join(_ESCAPES.sub("", text).split())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
