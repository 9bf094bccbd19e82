"""The tree keeps its own rules."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def tool(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_code_is_linted():
    """Ruff finds nothing."""
    tool("ruff", "check", "--quiet", ".")


def test_the_code_is_formatted():
    """Ruff would format nothing anew."""
    tool("ruff", "format", "--quiet", "--check", ".")


def test_the_types_hold():
    """Mypy finds nothing."""
    tool("mypy", "--no-error-summary")


def test_imports_point_downwards():
    """The layers cli > commands > actions | adapters > model > errors hold."""
    lint_imports = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([lint_imports, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_bootstrap_is_clean_shell():
    """Shellcheck finds nothing in the shell scripts."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tracked = [name for name in listed.split() if not name.endswith(".j2")]  # a template is no script yet
    first_lines = {
        name: (ROOT / name).read_bytes()[:30].split(b"\n")[0] for name in tracked if (ROOT / name).is_file()
    }
    scripts = [name for name, line in first_lines.items() if re.fullmatch(rb"#!.*\b(sh|bash|dash)\b.*", line)]
    assert "wod" in scripts
    subprocess.run([Path(sys.executable).parent / "shellcheck", *scripts], cwd=ROOT, check=True)
