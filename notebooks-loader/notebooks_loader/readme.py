"""A workshop's README.md, made of its first page: what visitors of its repository see."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from notebooks_loader import delivery, rendering
from notebooks_loader.catalogue import Workshop
from wodctl.errors import ContentProblem


def readme(workshop: Workshop, variables: Mapping[str, Any]) -> str:
    """The first page as Markdown, rendered as a workshop for seat 1: texts as they are, code in fences, no outputs.

    Raises `ContentProblem` if there is no first page, or if it cannot be rendered or is no notebook.
    """
    try:
        content = Path(workshop.path, delivery.FIRST_PAGE).read_bytes()
    except FileNotFoundError:
        raise delivery.no_first_page(workshop) from None
    source = rendering.Source(f"{workshop.name}/{delivery.FIRST_PAGE}", content)
    [rendered] = rendering.render([source], delivery.values(workshop, "WKSHP", 1, variables))
    try:
        notebook = json.loads(rendered)
        parts = [_part(cell, _language(notebook)) for cell in notebook["cells"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ContentProblem(
            f"{source.path} is no notebook once it is rendered: {error}.",
            hint=f"`wodctl workshop validate {workshop.path}` tells more.",
        ) from None
    return "\n\n".join(part for part in parts if part) + "\n"


def _language(notebook: Mapping[str, Any]) -> str:
    metadata = notebook.get("metadata", {})
    about = metadata.get("language_info", {}), metadata.get("kernelspec", {})
    return str(about[0].get("name") or about[1].get("language") or "")


def _part(cell: Mapping[str, Any], language: str) -> str:
    source = cell["source"]
    text = (source if isinstance(source, str) else "".join(source)).strip("\n")
    if cell["cell_type"] == "markdown":
        return text
    if cell["cell_type"] == "code" and text:
        fence = "`" * (1 + max([2, *map(len, re.findall("`{3,}", text))]))
        return f"{fence}{language}\n{text}\n{fence}"
    return ""
