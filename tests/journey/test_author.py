"""An author's hour: his workshop on his desk, each save in the browser within a second, mistakes where he looks."""

import base64
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.conftest import ROOT, STATE, docker, free_port
from tests.journey.test_participant import open_notebook, run_first_cell
from wodctl.adapters.builder import Builder
from wodctl.adapters.configuration import load

PROJECT = f"wodtests{os.getpid()}"
SAMPLE = ROOT / "notebooks-loader/workshops/WKSHP-Welcome101"


@dataclass
class Desk:
    """A running `wodctl author`, what it has said, and the author's folder."""

    process: subprocess.Popen[str]
    folder: Path
    port: int
    said: list[str] = field(default_factory=list)

    def container(self, service: str) -> str:
        """Name of the container of a service."""
        return f"{PROJECT}-author-{self.port}-{service}-1"

    def url(self) -> str:
        """The address that it prints, once it has printed it."""
        return self.wait_for(r"(http://127\.0\.0\.1:\d+/lab\?token=\S+)", 120)

    def wait_for(self, pattern: str, seconds: float = 60) -> str:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if found := re.search(pattern, "".join(self.said)):
                return found[1]
            assert self.process.poll() is None, "".join(self.said)
            time.sleep(0.02)
        raise AssertionError(f"{pattern} was not said: {''.join(self.said)}")

    def save(self, name: str, text: str) -> None:
        """Save a file as most editors do: a new one in the place of the old one."""
        fresh = self.folder / f".{name}.tmp"
        fresh.write_text(text)
        fresh.replace(self.folder / name)

    def read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.said.append(line)


def tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything in the folder: mode, time of change, content."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mode,
            path.stat().st_mtime_ns,
            b"" if path.is_dir() else path.read_bytes(),
        )
        for path in [folder, *folder.rglob("*")]
    }


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A desk with a copy of the sample workshop."""
    folder = tmp_path_factory.mktemp("author") / SAMPLE.name
    shutil.copytree(SAMPLE, folder)
    private = tmp_path_factory.mktemp("private")
    group = private / "ansible/production"
    (group / "pass").mkdir(parents=True)
    (group / "variables_WKSHP-Welcome101.yml").write_text("A: workshop\nC: {1: one, 20: other}\n")
    (group / "variables_CHLG-Welcome101.yml").write_text("B: challenge\n")
    (group / "pass/variables_WKSHP-Welcome101_20.yml").write_text("C: {20: twenty}\n")
    port = free_port()
    words = ["--state", str(STATE), "--project", PROJECT, "author", str(folder), "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", "wodctl", *words],
        cwd=ROOT,
        env=os.environ | {"WODPRIVDIR": str(private)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    made = Desk(process, folder, port)
    threading.Thread(target=made.read, daemon=True).start()
    made.wait_for("(Open the address)", 1200)  # an image may have to be built
    yield made
    process.send_signal(signal.SIGINT)
    process.wait(60)


@pytest.fixture
def lab(desk: Desk, page: Page) -> Page:
    """The desk in the browser, as the author opens it, with the sample as it is."""
    desk.save("0-ReadMeFirst.ipynb", (SAMPLE / "0-ReadMeFirst.ipynb").read_text())
    page.goto(desk.url())
    expect(page.locator(".lm-TabBar-tab.jp-mod-current", has_text="0-ReadMeFirst.ipynb")).to_be_visible(
        timeout=60_000
    )
    expect(page.locator(".jp-MarkdownViewer")).to_contain_text(": good", timeout=30_000)
    expect(page.locator(".jp-DirListing-item", has_text="as-challenge")).to_be_visible(timeout=30_000)
    expect(first_page(page)).to_contain_text("Hello, and welcome to", timeout=30_000)
    return page


def first_page(page: Page):
    return page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")


def test_the_author_lands_on_his_first_page_with_all_views_beside_it(desk, lab, artefacts):
    """The first page as student 1 with its picture, the three folders, and a page that says that all is well."""
    expect(first_page(lab).locator(".jp-RenderedMarkdown img").first).to_be_visible(timeout=30_000)
    expect(first_page(lab)).to_contain_text("Workshop: Welcome 101")
    for folder in ("as-student1", "as-challenge", "as-student20"):
        expect(lab.locator(".jp-DirListing-item", has_text=folder)).to_be_visible()
    lab.wait_for_timeout(500)
    lab.screenshot(path=artefacts / "author.png")


def test_each_save_is_soon_in_the_browser(desk, lab, artefacts):
    """From the file's last byte to the text on the open page; the artefact `author.json` says how long it took."""
    before = (desk.folder / "0-ReadMeFirst.ipynb").read_text()
    waits = []
    for number in range(10):
        text = f"Saved for the {number}th time by student1"
        desk.save("0-ReadMeFirst.ipynb", before.replace("Hello, and welcome to", text))
        saved = time.monotonic()
        first_page(lab).locator(".jp-RenderedMarkdown", has_text=text).wait_for()
        waits.append(time.monotonic() - saved)
        time.sleep(0.1 * number)
    figures = {"n": len(waits), "median": round(statistics.median(waits), 3), "max": round(max(waits), 3)}
    (artefacts / "author.json").write_text(json.dumps({"save to browser, s": figures}))
    desk.save("0-ReadMeFirst.ipynb", before)
    expect(first_page(lab)).to_contain_text("Hello, and welcome to")


def test_a_mistake_is_shown_where_the_author_looks(desk, lab, artefacts):
    """On the page beside his notebook, and in his terminal; the notebook stays as it was until he mends it."""
    before = (desk.folder / "0-ReadMeFirst.ipynb").read_text()
    desk.save("0-ReadMeFirst.ipynb", before.replace("{{ BRANDINGWOD }}", "{{ BRANDINGWAD }}"))
    expect(lab.locator(".jp-MarkdownViewer")).to_contain_text("BRANDINGWAD")
    expect(lab.locator(".jp-MarkdownViewer")).to_contain_text("0-ReadMeFirst.ipynb")
    expect(lab.locator("#wod-desk-status")).to_contain_text("1 error")
    desk.wait_for(r"(ERROR WKSHP-Welcome101/0-ReadMeFirst.ipynb, line \d+ \(cell 2\).*BRANDINGWAD)")
    lab.screenshot(path=artefacts / "author-mistake.png")
    expect(first_page(lab)).to_contain_text("Hello, and welcome to WoD Developer!", timeout=30_000)
    desk.save("0-ReadMeFirst.ipynb", before)
    expect(lab.locator(".jp-MarkdownViewer")).to_contain_text(": good")


def test_what_is_wrong_is_still_said_after_a_reload_of_the_page(desk, lab, artefacts):
    """A closed status page, a reload by F5: the line at the foot tells, and leads to the page."""
    before = (desk.folder / "0-ReadMeFirst.ipynb").read_text()
    desk.save("0-ReadMeFirst.ipynb", before.replace("{{ BRANDINGWOD }}", "{{ BRANDINGWAD }}"))
    line = lab.locator("#wod-desk-status")
    expect(line).to_contain_text("1 error")
    lab.locator(".lm-TabBar-tab", has_text="ERRORS.md").locator(".lm-TabBar-tabCloseIcon").click()
    expect(lab.locator(".jp-MarkdownViewer")).to_have_count(0)
    lab.reload()
    expect(line).to_contain_text("1 error", timeout=30_000)
    line.click()
    expect(lab.locator(".jp-MarkdownViewer")).to_contain_text("BRANDINGWAD")
    desk.save("0-ReadMeFirst.ipynb", before)
    expect(line).to_contain_text("good")
    # What looks wrong and works is told as well, without a word of alarm.
    extra = before.replace("Hello, and welcome to", "![x](Pictures/gone.png) Hello, and welcome to")
    desk.save("0-ReadMeFirst.ipynb", extra)
    expect(line).to_contain_text("1 warning")
    expect(lab.locator(".jp-MarkdownViewer")).to_contain_text("'Pictures/gone.png' is not in the workshop")
    desk.save("0-ReadMeFirst.ipynb", before)
    expect(line).to_contain_text("good")
    lab.locator(".lm-TabBar-tab", has_text="0-ReadMeFirst.ipynb").click()
    lab.wait_for_timeout(1500)  # JupyterLab keeps what is open a moment later


def test_a_changed_picture_is_shown_anew(desk, lab):
    """Its text stays as it is; the browser shows the new picture all the same."""
    picture = first_page(lab).locator(".jp-RenderedMarkdown img").first
    expect(picture).to_be_visible(timeout=30_000)
    name = re.search(r"/(Pictures/[^?]+)", picture.get_attribute("src"))[1]
    size = "image => image.complete ? [image.naturalWidth, image.naturalHeight] : []"
    lab.wait_for_timeout(500)
    path, before = desk.folder / name, (desk.folder / name).read_bytes()
    # A picture of one pixel.
    dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    assert picture.evaluate(size) != [1, 1]
    try:
        path.write_bytes(base64.b64decode(dot))
        saved = time.monotonic()
        while picture.evaluate(size) != [1, 1]:
            assert time.monotonic() < saved + 10, picture.get_attribute("src")
            time.sleep(0.05)
    finally:
        path.write_bytes(before)
    saved = time.monotonic()
    while picture.evaluate(size) in ([], [1, 1]):
        assert time.monotonic() < saved + 10, picture.get_attribute("src")
        time.sleep(0.05)


def test_what_his_folder_does_harms_nobody(desk, lab):
    """Scripts in texts, in the page of mistakes and in names do nothing; what leads out of the folder is refused."""
    before = (desk.folder / "0-ReadMeFirst.ipynb").read_text()
    evil = "<img src=x onerror=window.harmed=1><script>window.harmed=1</script>"
    name = "<img src=x onerror=window.harmed=1>.sh"
    try:
        (desk.folder / name).write_text("{{ NOBODY }}")
        (desk.folder / "passwd.txt").symlink_to("/etc/shadow")
        desk.save(
            "0-ReadMeFirst.ipynb", before.replace("Hello, and welcome to", f"{evil} Hello, and welcome to")
        )
        desk.wait_for(r"(ERROR .*passwd\.txt)")
        (desk.folder / "passwd.txt").unlink()
        expect(lab.locator(".jp-MarkdownViewer")).to_contain_text("NOBODY")
        expect(lab.locator(".jp-MarkdownViewer")).to_contain_text("onerror=window.harmed=1>.sh")
        lab.wait_for_timeout(1000)
        assert lab.evaluate("window.harmed") is None
    finally:
        (desk.folder / "passwd.txt").unlink(missing_ok=True)
        (desk.folder / name).unlink()
        desk.save("0-ReadMeFirst.ipynb", before)
    expect(lab.locator("#wod-desk-status")).to_contain_text("good")


def test_a_kernel_lives_on_when_its_notebook_changes(desk, lab):
    """The author runs a cell, saves a change, and runs it again: same kernel, same folder, new text."""
    for folder in ("as-student20", "WKSHP-Welcome101"):
        lab.locator(".jp-DirListing-item", has_text=folder).dblclick()
    open_notebook(lab, "1-WKSHP-Python.ipynb")
    assert "I am student 20" in run_first_cell(lab)
    name = "1-WKSHP-Python.ipynb"
    desk.save(name, (desk.folder / name).read_text().replace("I am student", "This is student"))
    expect(first_page(lab).locator(".jp-CodeCell").first).to_contain_text("This is student")
    assert "This is student 20" in run_first_cell(lab)


def test_views_differ_as_participants_do(desk):
    """A challenge reads as one, and student 20 is student 20; a removed file is gone from all views."""
    extra = desk.folder / "whoami.sh"
    extra.write_text("echo {{ MODEWS }} {{ STDID }} {{ A }} {{ B | default('-') }} {{ C[STDID] }}\n")
    lab = desk.container("lab")
    script = "cat /author/as-*/WKSHP-Welcome101/whoami.sh"
    # In the order of the folders' names. Values of the private repository, for this workshop, the challenge, a seat.
    expected = (
        "echo CHLG 1 workshop challenge one\necho WKSHP 1 workshop - one\necho WKSHP 20 workshop - twenty\n"
    )
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if docker("exec", lab, "bash", "-c", script, check=False) == expected:
            break
    assert docker("exec", lab, "bash", "-c", script) == expected
    extra.unlink()
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if not docker("exec", lab, "bash", "-c", "ls /author/as-*/*/whoami.sh || true"):
            break
    assert not docker("exec", lab, "bash", "-c", "ls /author/as-*/*/whoami.sh || true")


def status(url: str, host: str = "") -> int:
    request = urllib.request.Request(url, headers={"Host": host} if host else {})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_desk_is_closed_to_everybody_else(desk):
    """Loopback only, a token, no foreign name in the address, no rights in the containers, no network to render."""
    token = desk.url().partition("token=")[2]
    api = f"http://127.0.0.1:{desk.port}/api/contents"
    assert status(f"{api}?token={token}") == 200
    assert status(api) == status(f"{api}?token=wrong") == 403
    assert status(f"{api}?token={token}", host="rebound.example.org") == 403
    assert docker("port", desk.container("lab")).split() == ["8888/tcp", "->", f"127.0.0.1:{desk.port}"]
    for service in ("lab", "render"):
        [about] = json.loads(docker("inspect", desk.container(service)))
        assert about["HostConfig"]["CapDrop"] == ["ALL"] and about["HostConfig"]["ReadonlyRootfs"]
        assert token not in json.dumps(about)
        binds = [mount for mount in about["Mounts"] if mount["Type"] == "bind"]
        assert not any(mount["RW"] for mount in binds)
    assert about["HostConfig"]["NetworkMode"] == "none"


def test_a_port_in_use_is_named_and_nobody_is_disturbed(desk):
    """A second desk on the same port is refused with the way out; the first one goes on."""
    desk.url()
    words = ["--state", str(STATE), "--project", PROJECT, "author", str(desk.folder), f"--port={desk.port}"]
    done = subprocess.run(
        [sys.executable, "-m", "wodctl", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "--port" in done.stderr
    assert docker("ps", "--quiet", f"--filter=name={desk.container('lab')}")


def test_compose_alone_is_enough(tmp_path):
    """Without wodctl: `docker compose -f compose/laptop.yml up` prints an address that opens the workshop."""
    shutil.copytree(SAMPLE, tmp_path / SAMPLE.name)
    tmp_path.chmod(0o755)
    port = free_port()
    builder = Builder(ROOT, STATE, load(ROOT, STATE, {}, {})[0])
    environment = os.environ | {
        "WORKSHOPS": str(tmp_path),
        "WORKSHOP": SAMPLE.name,
        "WOD_AUTHOR_PORT": str(port),
        "WOD_IMAGE_DESK": builder.tag("desk"),
    }
    compose = ["docker", "compose", "-p", f"{PROJECT}-alone", "-f", str(ROOT / "compose/laptop.yml")]

    def run(*words: str) -> str:
        done = subprocess.run(
            [*compose, *words], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        run("up", "--detach", "--wait")
        token = re.search(r"token=(\S+)", run("logs", "lab"))[1]
        page = f"http://127.0.0.1:{port}/api/contents/as-student20/{SAMPLE.name}/0-ReadMeFirst.ipynb"
        assert status(f"{page}?token={token}") == 200 and status(page) == 403
    finally:
        run("down", "--volumes", "--timeout=1")


def test_the_appliance_of_his_workshop_is_beside_the_desk_and_goes_with_it(tmp_path):
    """The author of Ansible101 signs in on his managed host by its name, and his notebooks know its values."""
    folder, project, port = tmp_path / "WKSHP-Ansible101", f"{PROJECT}b", free_port()
    shutil.copytree(ROOT / "notebooks-loader/workshops/WKSHP-Ansible101", folder)
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, 1000, 1000)  # root's home in the desk is another than the author's
    words = ["--state", str(STATE), "--project", project, "author", str(folder), f"--port={port}"]
    process = subprocess.Popen([sys.executable, "-m", "wodctl", *words], cwd=ROOT, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)  # fmt: skip
    made = Desk(process, folder, port)
    threading.Thread(target=made.read, daemon=True).start()
    try:
        made.wait_for("(Open the address)", 300)
        made.url()
        desk = f"{project}-author-{port}-lab-1"
        assert docker("exec", desk, "ssh", "ansible101", "id", "-un").strip() == "student1"
        notebook = docker("exec", desk, "sh", "-c", "cat /author/as-student1/WKSHP-Ansible101/1-*.ipynb")
        page, password = re.search(r"--user student1:(\w+) (http://ansible101:80/student1/)", notebook).group(
            2, 1
        )
        assert "<h1>" in docker("exec", desk, "curl", "--silent", "--user", f"student1:{password}", page)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert process.returncode == 0, "".join(made.said)
    assert not docker("ps", "--all", "--quiet", f"--filter=name={project}-")


def test_the_folder_is_only_read_and_nothing_is_left(desk):
    """Ctrl-C ends it within seconds; the author's folder is as he left it, containers and volume are gone."""
    before = tree(desk.folder)
    desk.save("wod.yml", (desk.folder / "wod.yml").read_text())
    time.sleep(1)
    after = tree(desk.folder)
    assert {name for name in before if before[name] != after[name]} == {".", "wod.yml"}
    assert before.keys() == after.keys() == tree(SAMPLE).keys()
    desk.process.send_signal(signal.SIGINT)
    assert desk.process.wait(30) == 0, "".join(desk.said)
    # Jupyter Server has a traceback of its own for a page that is closed while its kernel connects.
    ours = "".join(line for line in desk.said if "lab-1" not in line)
    assert "Traceback" not in ours, ours
    assert not docker("ps", "--all", "--quiet", f"--filter=name={PROJECT}-author")
    assert not docker("volume", "ls", "--quiet", f"--filter=name={PROJECT}-author")
    assert not list((STATE / "author").glob(f"{PROJECT}*"))
