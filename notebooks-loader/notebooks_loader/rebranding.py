"""Former wordings of a community in workshops, replaced by the site's variables: {{ BRANDING }} and its like.

Only files that a delivery renders are changed: elsewhere participants would read the braces. Within Jinja's
own signs nothing is changed, nor between raw and endraw.
"""

import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from notebooks_loader.rendering import is_template
from wodctl.errors import ContentProblem

_JINJA = re.compile(r"(\{%-?\s*raw\b.*?\bendraw\s*[-+]?%\}|\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\})", re.DOTALL)


@dataclass(frozen=True)
class Rule:
    """What is found is replaced by `replacement`, which is taken as it is."""

    pattern: re.Pattern[str]
    replacement: str


@dataclass(frozen=True)
class Change:
    """A file whose text `before` would become `after`; as they are on disk, line ends included."""

    path: Path
    before: str
    after: str

    def apply(self) -> None:
        """Write the file, whole or not at all. Raises `ContentProblem` if somebody changed it meanwhile."""
        if self.path.read_bytes() != self.before.encode():
            raise ContentProblem(f"{self.path} was changed meanwhile.", hint="Run the same command again.")
        descriptor, fresh = tempfile.mkstemp(dir=self.path.parent, prefix=".rebrand-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(self.after.encode())
            status = self.path.stat()
            os.chmod(fresh, status.st_mode & 0o7777)
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                os.chown(fresh, status.st_uid, status.st_gid)
            os.replace(fresh, self.path)
        except BaseException:
            Path(fresh).unlink(missing_ok=True)
            raise


def read_rules(path: Path) -> list[Rule]:
    """The rules of a YAML file: a list of `find` (a regular expression) and `replace`. Raises `ContentProblem`."""
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
        return [Rule(re.compile(entry["find"]), str(entry["replace"])) for entry in entries]
    except re.error as error:
        raise ContentProblem(f"{path}: {error.pattern!r} is no regular expression: {error.msg}.") from None
    except (OSError, yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError) as error:
        raise ContentProblem(
            f"{path} cannot be read: {error}.", hint="Expected a list of `find: …` and `replace: …`."
        ) from None


def changes(root: Path, rules: Sequence[Rule]) -> tuple[list[Change], list[Path]]:
    """What the rules change below `root`, and the texts where they fit but that no delivery renders.

    Never looked at: links, what is no UTF-8 text, `.git` and other hidden folders. Raises `ContentProblem` if
    a second run would change a file again, or if a notebook would no longer be JSON.
    """
    found: list[Change] = []
    by_hand: list[Path] = []
    for path in _files(root):
        before = _text(path)
        if before is None:
            continue
        after = _replaced(before, rules)
        if after == before:
            continue
        if not is_template(path.name):
            by_hand.append(path)
            continue
        if _replaced(after, rules) != after:
            raise ContentProblem(
                f"{path}: a rule fits again on what the rules made of it, so each run would change it.",
                hint="See that no `replace` contains what a `find` looks for.",
            )
        if path.suffix == ".ipynb" and _is_json(before) and not _is_json(after):
            raise ContentProblem(
                f"{path} would no longer be a notebook.",
                hint='See that no `find` takes quotes or line ends, and that no `replace` has a ".',
            )
        found.append(Change(path, before, after))
    return found, by_hand


def _files(root: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file() and not path.is_symlink():
                yield path


def _text(path: Path) -> str | None:
    content = path.read_bytes()
    if b"\0" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def _replaced(text: str, rules: Sequence[Rule]) -> str:
    """The text with each rule applied in turn to what is not Jinja, in what former rules made of it too."""
    for rule in rules:
        parts = _JINJA.split(text)
        parts[::2] = [rule.pattern.sub(lambda _, rule=rule: rule.replacement, part) for part in parts[::2]]  # type: ignore[misc]
        text = "".join(parts)
    return text


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
