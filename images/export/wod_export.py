"""A participant's workshop to take home: `wod_export WKSHP-Name` in his home makes a PDF, a Word document and a zip.

They are left in the folder `Take-home`. Notebooks are hostile: their HTML, which nbconvert makes, is reduced to words,
tables, links to the web and pictures that are in the notebooks or beside them; nothing is fetched, nothing is run. What
cannot be read is named in the document. Ends with 0, or with 1 and a sentence about what went wrong.
"""

import base64
import binascii
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

TAKE_HOME = "Take-home"
PAGE = Path("/usr/share/wod/page.typ")

NOTEBOOK_LIMIT = 64 * 2**20
"""Bytes of a notebook."""
ARCHIVE_LIMIT = 512 * 2**20
"""Bytes of all files in the archive, before they are packed."""
PIXELS = 40_000_000
"""Of one picture."""
WIDTH = 540
"""Pixels (96 in an inch) that a picture may be wide on the page."""
SECONDS = 90
"""For one program."""

_GONE = (
    "script",
    "style",
    "iframe",
    "object",
    "embed",
    "video",
    "audio",
    "canvas",
    "form",
    "link",
    "meta",
    "svg",
)
_DATA = re.compile(r"data:image/([a-z+.-]+)(;[^,;]*)*;base64,(.*)", re.DOTALL)


class Problem(Exception):
    """The workshop cannot be exported; the text is for people."""


def main() -> None:
    """Export the workshop that the one argument names."""
    try:
        export(Path.cwd(), sys.argv[1])
    except Problem as problem:
        sys.exit(str(problem))


def export(home: Path, name: str) -> None:
    """Make the three files of the workshop in `home/name`. Raises Problem."""
    folder = home / name
    if folder.is_symlink() or not folder.is_dir():
        raise Problem(f"There is no folder {name} in the home.")
    target = home / TAKE_HOME
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise Problem(f"{TAKE_HOME} in the home is no folder.")
    target.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        page = work / "page.html"
        page.write_text(_html(folder, work))
        document, pdf = work / f"{name}.docx", work / f"{name}.pdf"
        _run(
            "pandoc",
            *_READ,
            "--to=docx",
            f"--metadata=title:{name}",
            f"--output={document}",
            str(page),
            at=work,
        )
        _make_pdf(name, page, pdf, work)
        archive = work / f"{name}.zip"
        _pack(folder, [pdf, document], archive)
        for made in (pdf, document, archive):
            fresh = target / f".{made.name}.new"
            shutil.copyfile(made, fresh, follow_symlinks=False)
            os.replace(fresh, target / made.name)


_READ = ("--from=html+tex_math_dollars+tex_math_single_backslash", "--standalone", "--no-highlight")


def _make_pdf(name: str, page: Path, pdf: Path, work: Path) -> None:
    import typst

    source = work / "page.typ"
    # Without a font of its own, pandoc's page names an empty list, which typst refuses.
    header = [f"--include-in-header={PAGE}", "--variable=mainfont:DejaVu Sans", "--variable=papersize:a4"]
    _run(
        "pandoc",
        *_READ,
        "--to=typst",
        *header,
        f"--metadata=title:{name}",
        f"--output={source}",
        str(page),
        at=work,
    )
    try:
        typst.compile(str(source), output=str(pdf), root=str(work))
    except Exception as error:
        raise Problem(f"No PDF could be made: {str(error).strip().splitlines()[0][:300]}") from None


def _html(folder: Path, work: Path) -> str:
    """All notebooks of the folder as one page, in the order of their names."""
    from nbconvert import HTMLExporter

    notebooks = sorted(path for path in folder.glob("*.ipynb") if path.is_file() and not path.is_symlink())
    if not notebooks:
        raise Problem(f"There is no notebook in {folder.name}.")
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    parts = []
    for number, path in enumerate(notebooks):
        parts.append(f"<h1>{path.stem.replace('&', '').replace('<', '')}</h1>")
        try:
            if path.stat().st_size > NOTEBOOK_LIMIT:
                raise ValueError(f"larger than {NOTEBOOK_LIMIT // 2**20} MiB")
            body, _ = exporter.from_filename(str(path))
            parts.append(_harmless(body, folder, work, number))
        except Exception as error:  # whatever a notebook may hold, the others are exported
            reason = (
                str(error).splitlines()[0][:200].replace("<", "(") if str(error) else type(error).__name__
            )
            parts.append(f"<p><em>This notebook cannot be shown: {reason}</em></p>")
    return f"<!doctype html><html><body>{''.join(parts)}</body></html>"


def _harmless(body: str, folder: Path, work: Path, notebook: int) -> str:
    """The HTML of one notebook without what could lead out of the page, its pictures as files of ours."""
    from bs4 import BeautifulSoup

    page = BeautifulSoup(body, "html.parser")
    for mark in page.select("a.anchor-link"):
        mark.decompose()
    for element in page.find_all(_GONE):
        element.decompose()
    for number, image in enumerate(page.find_all("img")):
        source, words = str(image.get("src", "")), str(image.get("alt") or "")
        picture = _picture(source, folder, work / f"{notebook}-{number}.png")
        if picture is None:
            image.replace_with(f"[{words or 'picture'}]")
        else:
            image.attrs = {"src": picture, "alt": words}
    for element in page.find_all(True):
        if element.name == "a":
            address = str(element.get("href", ""))
            element.attrs = {"href": address} if re.match(r"(https?|mailto):", address) else {}
            if not element.attrs:
                element.unwrap()
        elif element.name != "img":
            kept = ("colspan", "rowspan", "start")
            element.attrs = {name: value for name, value in element.attrs.items() if name in kept}
    return str(page)


def _picture(source: str, folder: Path, target: Path) -> str | None:
    """File name of a picture, made a PNG of ours that knows its width; None for what is none, or lies elsewhere."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = PIXELS
    try:
        content = _content(source, folder)
        if content.lstrip()[:5] in (b"<svg ", b"<?xml", b"<!DOC", b"<!--"):
            content = _run(
                "rsvg-convert",
                "--width=1200",
                "--keep-aspect-ratio",
                "--format=png",
                at=target.parent,
                give=content,
            )
        with Image.open(io.BytesIO(content)) as image:
            dots = 96 * max(1.0, image.width / WIDTH)
            plain = image.convert("RGBA" if image.mode in ("RGBA", "LA", "P", "PA") else "RGB")
            plain.save(target, "PNG", dpi=(dots, dots))
    except (OSError, ValueError, SyntaxError, Problem, Image.DecompressionBombError):
        return None
    return target.name


def _content(source: str, folder: Path) -> bytes:
    """The bytes of a picture. Raises OSError or ValueError for what is not in the notebook or the workshop's folder."""
    data = _DATA.fullmatch(source)
    if data:
        try:
            return base64.b64decode(data[3])
        except binascii.Error as error:
            raise ValueError(str(error)) from None
    if source.startswith("data:image/svg+xml,"):
        return unquote(source.partition(",")[2]).encode()
    if re.match(r"[a-z]+:|//|/", source, re.IGNORECASE):
        raise ValueError("not beside the notebook")
    path = (folder / unquote(source.partition("?")[0])).resolve()
    if not path.is_relative_to(folder.resolve()) or path.stat().st_size > NOTEBOOK_LIMIT:
        raise ValueError("not in the folder")
    return path.read_bytes()


def _pack(folder: Path, documents: list[Path], archive: Path) -> None:
    """The workshop's folder as it is, and the documents, as one archive. Raises Problem if there is too much of it."""
    size = 0
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as pack:
        for path in documents:
            pack.write(path, path.name)
        for path in _files(folder):
            size += path.stat().st_size
            if size > ARCHIVE_LIMIT:
                raise Problem(
                    f"{folder.name} holds more than {ARCHIVE_LIMIT // 2**20} MiB, too much for an archive."
                )
            pack.write(path, path.relative_to(folder.parent))


def _files(folder: Path) -> Iterator[Path]:
    """The regular files below a folder that can be read, without checkpoints."""
    for directory, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if name != ".ipynb_checkpoints")
        for name in sorted(files):
            path = Path(directory, name)
            if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
                yield path


def _run(*words: str, at: Path, give: bytes = b"") -> bytes:
    try:
        done = subprocess.run(words, cwd=at, input=give, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise Problem(f"{words[0]} took more than {SECONDS} s.") from None
    if done.returncode != 0:
        raise Problem(f"{words[0]} failed: {done.stderr.decode(errors='replace').strip()[:300]}")
    return done.stdout


if __name__ == "__main__":
    main()
