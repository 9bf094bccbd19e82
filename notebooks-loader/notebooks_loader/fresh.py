"""A new workshop, made from a complete small one: it can be delivered before its author has written a word."""

import os
import shutil
import tempfile
from pathlib import Path

from notebooks_loader.catalogue import folder_name
from wodctl.errors import ContentProblem

PLACEHOLDER = "Template101"
"""The template's name, wherever it stands in a text of it."""

_TEXTS = (".ipynb", ".md", ".yml", ".svg")


def make_workshop(template: Path, target: Path) -> Path:
    """Make the workshop `target` from the folder `template` and return its folder, which begins with `WKSHP-`.

    The last part of `target` is the name, with or without that beginning. The folder appears whole or not at
    all. Raises `ContentProblem` for what cannot be a workshop's name, and where something is there already.
    """
    name = target.name if target.name.startswith("WKSHP-") else f"WKSHP-{target.name}"
    folder = target.with_name(folder_name(name))
    if os.path.lexists(folder):
        raise ContentProblem(f"{folder} is there already.", hint="Choose another name, or move it away.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-workshop-") as scratch:
        made = Path(scratch, folder.name)
        shutil.copytree(template, made)
        for path in made.rglob("*"):
            if path.suffix in _TEXTS:
                text = path.read_text(encoding="utf-8")
                path.write_text(text.replace(PLACEHOLDER, name.removeprefix("WKSHP-")), encoding="utf-8")
        made.rename(folder)
    return folder
