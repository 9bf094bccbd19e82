"""A workshop installed into a home: copied, rendered for the seat, JupyterLab opening at its first page."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from notebooks_loader import rendering, tree
from notebooks_loader.catalogue import Workshop
from wodctl.errors import ContentProblem

FIRST_PAGE = "0-ReadMeFirst.ipynb"
"""The notebook that every workshop has and that a participant sees first."""

MODES = ("WKSHP", "CHLG")
"""As a workshop, and as a challenge."""

LARGEST_TEMPLATES = 64 * 1024**2
"""Bytes of all files that are rendered, of one workshop."""

_CHECKPOINTS = ".ipynb_checkpoints"
_WORKSPACES = (".jupyter", ".jupyter/lab", ".jupyter/lab/workspaces")
_WORKSPACE_FILE = ".jupyter/lab/workspaces/default-37a8.jupyterlab-workspace"
_PDF_SCRIPT_NAME = "wod-generate-pdf.sh"
_PDF_SCRIPT = b"""#!/bin/bash
# Makes a PDF of every notebook of this workshop, to take home.
cd -- "$(dirname -- "$0")" || exit 1
form=pdf
if ! command -v xelatex >/dev/null; then
    echo "There is no LaTeX here: making web pages instead. Your browser prints them as PDF."
    form=html
fi
failed=0
for notebook in *.ipynb; do
    jupyter nbconvert --to "$form" -- "$notebook" || failed=1
done
exit "$failed"
"""


def deliver(
    workshop: Workshop, mode: str, seat: int, variables: Mapping[str, Any], home: Path, uid: int, gid: int
) -> list[str]:
    """Install `workshop` for `seat` into the directory `home`, in place of an earlier delivery.

    Returns a sentence for each notebook that JupyterLab will not open; it is delivered as it is.

    `mode` is `WKSHP`, or `CHLG` to deliver it as a challenge. `variables` are the site's and the workshop's;
    those of the delivery itself (STDID, MODEWS, WORKSHOP, CHALLENGE) are added here. Everything becomes
    `uid`:`gid`. `home` must not be live yet: a participant who can write there could lead us astray with
    links.

    Raises `ContentProblem` before anything is written when a file cannot be rendered or copied.
    """
    entries = tree.scan(workshop.path)
    if not any(entry.path == FIRST_PAGE and entry.is_file for entry in entries):
        raise no_first_page(workshop)
    templates = [entry for entry in entries if is_template(entry)]
    contents = rendering.render(sources(workshop, templates), values(workshop, mode, seat, variables))
    rendered = {entry.path: content for entry, content in zip(templates, contents, strict=True)}

    owner = tree.Owner(uid, gid)
    target = os.path.join(home, workshop.name)
    _ensure_absent(target)
    tree.make_directory(target, os.stat(workshop.path).st_mode & 0o777 | 0o700, owner)
    for entry in entries:
        path = os.path.join(target, entry.path)
        if entry.is_directory:
            tree.make_directory(path, entry.permissions | 0o700, owner)
        elif not entry.is_file:
            tree.make_link(path, entry.target, owner)
        elif entry.path in rendered:
            tree.write_file(path, rendered[entry.path], 0o744, owner)
        else:
            tree.copy_file(entry, path, entry.permissions | 0o700, owner)
    _add_what_comes_with_each(target, rendered[FIRST_PAGE], owner)
    _open_at_first_page(home, workshop.name, owner)
    problems = (
        notebook_problem(f"{workshop.name}/{path}", content)
        for path, content in rendered.items()
        if path.endswith(".ipynb")
    )
    return [problem for problem in problems if problem]


def notebook_problem(name: str, content: bytes) -> str:
    """Why JupyterLab cannot open a notebook with that content, as a sentence; nothing if it can."""
    try:
        notebook = json.loads(content)
    except json.JSONDecodeError as error:
        return f"{name}, line {error.lineno} of what it is rendered to: not JSON: {error.msg}."
    except (UnicodeDecodeError, RecursionError):
        return f"{name} is not UTF-8, or nested too deeply."
    if (
        not isinstance(notebook, dict)
        or notebook.get("nbformat") != 4
        or not isinstance(notebook.get("cells"), list)
    ):
        return f"{name} is not a notebook of format 4."
    return ""


def is_template(entry: tree.Entry) -> bool:
    """Whether that entry of a workshop is rendered."""
    return entry.is_file and rendering.is_template(os.path.basename(entry.path))


def sources(workshop: Workshop, templates: Iterable[tree.Entry]) -> list[rendering.Source]:
    """The workshop's templates as messages name them. Raises `ContentProblem` if they are too much to be read."""
    templates = list(templates)
    if sum(entry.status.st_size for entry in templates) > LARGEST_TEMPLATES:
        raise ContentProblem(
            f"{workshop.name} has more than {LARGEST_TEMPLATES // 1024**2} MiB in files that are rendered.",
            hint="Clear the outputs of its notebooks, or give files of data another suffix.",
        )
    return [
        rendering.Source(f"{workshop.name}/{entry.path}", Path(entry.source).read_bytes())
        for entry in templates
    ]


def values(workshop: Workshop, mode: str, seat: int, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The site's variables and those of this very delivery, which win."""
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}: expected WKSHP or CHLG")
    return {
        **variables,
        "STDID": str(seat),  # a text, as workshops know it: they join it to others
        "MODEWS": mode,
        "WORKSHOP": workshop.name,
        "CHALLENGE": f"{mode}-{workshop.name.removeprefix('WKSHP-')}",
        "DIR": "",
    }


def no_first_page(workshop: Workshop) -> ContentProblem:
    """What is wrong with a workshop without the page that participants start with."""
    return ContentProblem(
        f"{workshop.name} has no {FIRST_PAGE}: expected the page that participants start with."
    )


def _ensure_absent(path: str) -> None:
    if os.path.islink(path) or os.path.isfile(path):
        os.unlink(path)
    elif os.path.lexists(path):
        shutil.rmtree(path)


def _add_what_comes_with_each(target: str, first_page: bytes, owner: tree.Owner) -> None:
    """The script for PDFs, and a checkpoint of the first page, to which it can be reverted."""
    script = os.path.join(target, _PDF_SCRIPT_NAME)
    checkpoint = os.path.join(target, _CHECKPOINTS, FIRST_PAGE.replace(".ipynb", "-checkpoint.ipynb"))
    for path in (script, checkpoint):
        _ensure_absent(path)
    tree.write_file(script, _PDF_SCRIPT, 0o755, owner)
    tree.make_directory(os.path.dirname(checkpoint), 0o751, owner)
    tree.write_file(checkpoint, first_page, 0o744, owner)


def _open_at_first_page(home: Path, folder: str, owner: tree.Owner) -> None:
    for directory in _WORKSPACES:
        tree.make_directory(os.path.join(home, directory), 0o751, owner)
    path = os.path.join(home, _WORKSPACE_FILE)
    _ensure_absent(path)
    tree.write_file(path, json.dumps(_workspace(folder), indent=1).encode(), 0o644, owner)


def _workspace(folder: str) -> dict[str, Any]:
    """JupyterLab's default workspace: the first page open, the file browser in the workshop's folder."""
    notebook = f"{folder}/{FIRST_PAGE}"
    return {
        "data": {
            "layout-restorer:data": {
                "main": {
                    "dock": {"type": "tab-area", "currentIndex": 0, "widgets": [f"notebook:{notebook}"]},
                    "current": f"notebook:{notebook}",
                },
                "down": {"size": 0, "widgets": []},
                "left": {
                    "collapsed": False,
                    "visible": True,
                    "current": "filebrowser",
                    "widgets": [
                        "filebrowser",
                        "running-sessions",
                        "@jupyterlab/toc:plugin",
                        "extensionmanager.main-view",
                    ],
                },
                "right": {
                    "collapsed": True,
                    "visible": True,
                    "widgets": ["jp-property-inspector", "debugger-sidebar"],
                },
                "relativeSizes": [0.22, 0.78, 0],
                "top": {"simpleVisibility": True},
            },
            "file-browser-filebrowser:cwd": {"path": folder},
            f"notebook:{notebook}": {"data": {"path": notebook, "factory": "Notebook"}},
        },
        "metadata": {"id": "default"},
    }
