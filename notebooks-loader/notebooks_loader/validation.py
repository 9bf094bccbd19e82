"""What would go wrong with a workshop, told to its author before a participant sees it."""

from collections.abc import Iterable, Mapping
from typing import Any

from notebooks_loader import delivery, rendering, tree
from notebooks_loader.catalogue import Workshop
from wodctl.errors import ContentProblem


def problems(workshop: Workshop, variables: Mapping[str, Any], seats: Iterable[int]) -> list[str]:
    """Every problem found, a sentence each; none means that the workshop can be delivered to those seats.

    All files are rendered, as a workshop and as a challenge; notebooks must then be JSON that JupyterLab can
    open. Does not run any notebook.
    """
    try:
        entries = tree.scan(workshop.path)
    except ContentProblem as problem:
        return [problem.message]
    found: dict[str, None] = {}  # in the order of their finding, each once
    if not any(entry.path == delivery.FIRST_PAGE and entry.is_file for entry in entries):
        found[delivery.no_first_page(workshop).message] = None
    sources = delivery.sources(workshop, filter(delivery.is_template, entries))
    for mode in delivery.MODES:
        for seat in seats:
            values = delivery.values(workshop, mode, seat, variables)
            found |= dict.fromkeys(problem for source in sources for problem in _of_file(source, values))
    return list(found)


def _of_file(source: rendering.Source, values: Mapping[str, Any]) -> list[str]:
    try:
        [content] = rendering.render([source], values)
    except ContentProblem as problem:
        return [f"{problem.message} {problem.hint}".strip()]
    odd = delivery.notebook_problem(source.path, content) if source.is_notebook else ""
    return [odd] if odd else []
