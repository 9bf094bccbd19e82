"""What a participant takes home: his notebooks as a PDF, a Word document and an archive."""

import io
import json
import zipfile
from urllib.parse import urljoin

from playwright.sync_api import expect

from tests.conftest import docker
from tests.journey.portal import send, wait_for_action
from tests.journey.test_participant import log_in, new_password

MINE = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {},
    "cells": [
        {
            "cell_type": "markdown",
            "id": "a",
            "metadata": {},
            "source": "# Zebra crossing\n\n![logo](Pictures/logo.png) ![](/etc/passwd) ![](https://example.net/x.png)\n\n"
            "<script>alert(1)</script><iframe src='file:///etc/passwd'></iframe>\n\n$E = mc^2$ and [broken](#nowhere)",
        },
        {
            "cell_type": "code",
            "id": "b",
            "metadata": {},
            "execution_count": 1,
            "source": "print('quokka')",
            "outputs": [{"output_type": "stream", "name": "stdout", "text": "quokka\n"}],
        },
    ],
}


def test_he_takes_home_what_he_has_done(stack, page, artefacts, tmp_path):
    """File > Take Home makes all three, with his words, results and pictures; the operator gets the same."""
    send(stack, "CREATE 16 1600", "WKSHP-Welcome101")
    assert wait_for_action(stack, 1600, "CREATE")["state"] == "done"
    seat = f"{stack.project}-student16"
    code = f"import pathlib; pathlib.Path('WKSHP-Welcome101/9-Mine.ipynb').write_text({json.dumps(MINE)!r})"
    docker("exec", seat, "python3", "-c", code)
    docker("exec", seat, "sh", "-c", "echo '{' > WKSHP-Welcome101/8-Broken.ipynb")
    log_in(page, stack, "student16", new_password(stack, 16))
    expect(page.locator(".lm-TabBar-tab.jp-mod-current", has_text="0-ReadMeFirst.ipynb")).to_be_visible()

    page.get_by_role("menuitem", name="File").click()
    entry = page.locator(".lm-Menu-item", has_text="Take Home")
    expect(entry).to_be_visible()
    page.screenshot(path=artefacts / "take-home-menu.png")
    entry.click()
    offer = page.locator("#wod-notices").get_by_role("alert").filter(has_text="to take home")
    expect(offer).to_be_visible(timeout=120_000)
    page.screenshot(path=artefacts / "take-home.png")
    # Not by a click: the browser runs in a container, and its downloads stay there.
    address = offer.get_by_role("link", name="ZIP").get_attribute("href")
    answer = page.context.request.get(urljoin(page.url, address))
    assert answer.ok
    with zipfile.ZipFile(io.BytesIO(answer.body())) as archive:
        assert "WKSHP-Welcome101/9-Mine.ipynb" in archive.namelist()
        document = archive.read("WKSHP-Welcome101.docx")
        assert archive.read("WKSHP-Welcome101.pdf").startswith(b"%PDF-")
    with zipfile.ZipFile(io.BytesIO(document)) as word:
        text = word.read("word/document.xml").decode()
        pictures = [name for name in word.namelist() if name.startswith("word/media/")]
    assert len(pictures) >= 3 and "Zebra crossing" in text and text.count("quokka") == 2
    assert "Your name here" in text and "student16" in text
    assert "root:" not in text and "alert(1)" not in text
    assert "This notebook cannot be shown" in text

    printed = stack.wodctl("student", "export", "16", "-o", str(tmp_path)).stdout.split()
    assert [name.rpartition(".")[2] for name in printed] == ["pdf", "docx", "zip"]
    pdf = (tmp_path / "student16-WKSHP-Welcome101.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-") and pdf.count(b"/Image") >= 3
