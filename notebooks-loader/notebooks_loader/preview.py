"""A workshop's folder kept rendered as participants see it, anew at each save: what an author looks at.

Files are replaced one by one, each whole or not at all, and only if they change: folders stay the same, so
that a kernel that runs in one keeps its place, and whoever watches for changes sees those that there are.
"""

import hashlib
import html
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from notebooks_loader import delivery, tree, validation
from notebooks_loader.catalogue import Catalogue, Workshop
from notebooks_loader.validation import Finding, Variables
from wodctl.errors import ContentProblem

STATUS_PAGE = "ERRORS.md"
"""The page, at the top of the desk, that tells what is wrong."""

POLL = 0.05
"""Seconds between two looks at the folder.

Looked at and not told by inotify: changes made on the host of a virtual machine, as Docker has them on macOS
and Windows, do not reach the inotify of a container. A look at 200 files takes 2 ms.
"""

SETTLED = 0.03
"""Seconds without a further change after which a save is taken to be complete."""

_PATIENCE = 1.0
_WORKSPACE = ".jupyter/lab/workspaces/default-37a8.jupyterlab-workspace"


@dataclass
class View:
    """One way of seeing the workshop: the folder of the desk, and for whom it is rendered."""

    folder: str
    mode: str
    seat: int
    shown: dict[str, str] = field(default_factory=dict)


def views() -> list[View]:
    """The three that show most: a first seat, the challenge, and a seat with two digits."""
    return [
        View("as-student1", "WKSHP", 1),
        View("as-challenge", "CHLG", 1),
        View("as-student20", "WKSHP", 20),
    ]


class Preview:
    """The folder `source` of one workshop, rendered with the `variables` of each view into the folder `desk`.

    `kernels` are the names of those that participants have; with none given, kernels are not looked at. Nothing
    is ever written into `source`.
    """

    def __init__(self, source: Path, variables: Variables, desk: Path, kernels: Collection[str] = ()) -> None:
        self._source = source
        self._variables = variables
        self._desk = desk
        self._kernels = kernels
        self._views = views()
        for view in self._views:
            shutil.rmtree(desk / view.folder, ignore_errors=True)
            (desk / view.folder).mkdir()
        workspace = desk / _WORKSPACE
        workspace.parent.mkdir(parents=True, exist_ok=True)
        workspace.write_text(json.dumps(_workspace(f"{self._views[0].folder}/{source.name}"), indent=1))

    def watch(self, say: Callable[[str], None]) -> None:
        """Show the workshop, and again after each save, without an end; `say` is told a line each time."""
        seen = None
        while True:
            start = time.monotonic()
            now = _snapshot(self._source)
            if now != seen:
                seen = self._settled(now)
                start = time.monotonic()
                found = self.show()
                for one in found:
                    say(f"{'ERROR' if one.is_error else 'WARNING'} {one.text}")
                took = 1000 * (time.monotonic() - start)
                say(f"{self._source.name}: {_count(found)}; rendered in {took:.0f} ms")
            # A folder so large that looking at it takes long is looked at less often.
            time.sleep(max(POLL, 3 * (time.monotonic() - start)))

    def show(self) -> list[Finding]:
        """Render the workshop as it is now and tell what is wrong; a view that cannot be rendered stays."""
        found: dict[Finding, None] = {}
        try:
            workshop = Catalogue(self._source.parent).workshop(self._source.name)
            for view in self._views:
                found |= dict.fromkeys(self._show_view(workshop, view))
            seats = sorted({view.seat for view in self._views})
            found |= dict.fromkeys(validation.examine(workshop, self._variables, seats, self._kernels))
        except ContentProblem as problem:
            found[_error(f"{problem.message} {problem.hint}".strip())] = None
        except OSError as error:
            # A file that went away while we read it: the next look finds the change.
            found[_error(f"{error.filename}: {error.strerror}.")] = None
        _replace_file(self._desk / STATUS_PAGE, _status(self._source.name, list(found)).encode(), 0o644)
        return list(found)

    def _show_view(self, workshop: Workshop, view: View) -> list[Finding]:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                variables = self._variables(view.mode, view.seat)
                delivery.deliver(
                    workshop, view.mode, view.seat, variables, Path(scratch), os.geteuid(), os.getegid()
                )
            except ContentProblem as problem:
                return [_error(f"{problem.message} {problem.hint}".strip())]
            view.shown = _bring(
                Path(scratch, workshop.name), self._desk / view.folder / workshop.name, view.shown
            )
        return []

    def _settled(self, snapshot: Any) -> Any:
        """The folder's snapshot once nothing changes any more: an editor may write a file in several goes."""
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            time.sleep(SETTLED)
            now = _snapshot(self._source)
            if now == snapshot:
                break
            snapshot = now
        return snapshot


def _snapshot(root: Path) -> dict[str, tuple[int, ...]]:
    """What can tell that a tree has changed; what vanishes while we look is left out."""
    found: dict[str, tuple[int, ...]] = {}
    folders = [str(root)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    found[entry.path] = (status.st_mtime_ns, status.st_size, status.st_mode, status.st_ino)
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except OSError:
            continue
    return found


def _bring(made: Path, shown: Path, former: Mapping[str, str]) -> dict[str, str]:
    """Make the folder `shown` what `made` is, and return what each of its entries is now.

    What has not changed since `former` is left alone, whatever cells that were run made of it.
    """
    shown.mkdir(exist_ok=True)
    entries = tree.scan(made)
    for path in sorted(set(former) - {entry.path for entry in entries}, reverse=True):
        _remove(shown / path)
    now: dict[str, str] = {}
    for entry in entries:
        target = shown / entry.path
        content = Path(entry.source).read_bytes() if entry.is_file else entry.target.encode()
        kind = "folder" if entry.is_directory else "file" if entry.is_file else "link"
        now[entry.path] = f"{kind} {entry.permissions:o} {hashlib.sha256(content).hexdigest()}"
        if former.get(entry.path) == now[entry.path]:
            continue
        if former.get(entry.path, kind).partition(" ")[0] != kind:
            _remove(target)
        if entry.is_directory:
            target.mkdir(exist_ok=True)
        elif entry.is_file:
            # A notebook of the preview is read-only: what was written into it would be lost at the next save.
            notebook = entry.path.endswith(".ipynb")
            _replace_file(target, content, 0o444 if notebook else entry.permissions)
        else:
            _remove(target)
            target.symlink_to(entry.target)
    return now


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _replace_file(path: Path, content: bytes, mode: int) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.write_bytes(content)
    fresh.chmod(mode)
    fresh.replace(path)


def _error(text: str) -> Finding:
    return Finding(text, is_error=True)


def _count(found: list[Finding]) -> str:
    """`2 errors, 1 warning`, or `good`: in the terminal, on the page, and at the foot of JupyterLab."""
    errors = sum(one.is_error for one in found)
    counts = [f"{count} {what}{'s' if count > 1 else ''}"
              for count, what in ((errors, "error"), (len(found) - errors, "warning")) if count]  # fmt: skip
    return ", ".join(counts) or "good"


def _status(name: str, found: list[Finding]) -> str:
    """The page. Its first line is what the desk's extension of JupyterLab reads."""
    clock = time.strftime("%H:%M:%S")
    page = f"**{name}: {_count(found)}** (saved at {clock})\n"
    for heading, is_error in (("Errors", True), ("Warnings", False)):
        # HTML, in which nothing is Markdown: a problem may quote whatever the author wrote.
        items = "".join(
            f"<li>{html.escape(' '.join(one.text.split()))}</li>\n"
            for one in found
            if one.is_error == is_error
        )
        page += f"\n{heading}\n\n<ul>\n{items}</ul>\n" if items else ""
    if any(one.is_error for one in found):
        page += "\nWhat cannot be rendered is shown as it was before.\n"
    return page


def _workspace(folder: str) -> dict[str, Any]:
    """JupyterLab's default workspace: the first page, below it what is wrong, all folders beside them."""
    page, status = f"notebook:{folder}/{delivery.FIRST_PAGE}", f"markdownviewer-widget:{STATUS_PAGE}"
    areas = [{"type": "tab-area", "currentIndex": 0, "widgets": [widget]} for widget in (page, status)]
    return {
        "data": {
            "layout-restorer:data": {
                "main": {
                    "dock": {
                        "type": "split-area",
                        "orientation": "vertical",
                        "sizes": [0.72, 0.28],
                        "children": areas,
                    },
                    "current": page,
                },
                "down": {"size": 0, "widgets": []},
                "left": {
                    "collapsed": False,
                    "visible": True,
                    "current": "filebrowser",
                    "widgets": ["filebrowser"],
                },
                "right": {"collapsed": True, "visible": True, "widgets": []},
                "relativeSizes": [0.2, 0.8, 0],
                "top": {"simpleVisibility": True},
            },
            "file-browser-filebrowser:cwd": {"path": ""},
            page: {"data": {"path": f"{folder}/{delivery.FIRST_PAGE}", "factory": "Notebook"}},
            status: {"data": {"path": STATUS_PAGE, "factory": "Markdown Preview"}},
        },
        "metadata": {"id": "default"},
    }
