"""Files rendered for a seat: exactly as existing workshops expect, and nothing that a hostile one wants."""

import json
import re
import subprocess
import sys
import time
from typing import Any

import pytest

from notebooks_loader import confined, rendering
from notebooks_loader.rendering import Source, is_template, render
from wodctl.errors import ContentProblem

SITE: dict[str, Any] = {
    "STDID": "3",
    "MODEWS": "WKSHP",
    "BRANDINGWOD": "WoD Developer",
    "WODBEFQDN": "wod.example.org",
    "IP-WKSHP-Ansible101": "192.0.2.7",
    "HTTPPORT-WKSHP-Ansible101": "{{ BASEPORT + STDID | int }}",
    "BASEPORT": 8000,
    "NOTHING": None,
    "OVIP": {1: "one", 3: "three"},
    "SRVNAME": {"3": "srv-three"},
}


def text(content: str, name: str = "WKSHP-X/a.sh", **variables: Any) -> str:
    """What a file with that content is rendered to."""
    return render([Source(name, content.encode())], {**SITE, **variables})[0].decode()


def notebook(*lines: str) -> str:
    """The text of a notebook of one Markdown cell with those lines, as they stand in the JSON."""
    source = ",\n".join(f'    "{line}\\n"' for line in lines)
    return (
        '{\n "cells": [\n  {\n   "cell_type": "markdown",\n   "metadata": {},\n   "source": [\n'
        + source
        + "\n   ]\n"
        '  }\n ],\n "metadata": {},\n "nbformat": 4,\n "nbformat_minor": 5\n}\n'
    )


def cell(content: str, **variables: Any) -> str:
    """What a reader of the rendered notebook sees."""
    return "".join(json.loads(text(content, "WKSHP-X/1-a.ipynb", **variables))["cells"][0]["source"])


# --- Which files ----


@pytest.mark.parametrize(
    "name",
    [
        "a.ipynb",
        "a.yaml",
        "a.py",
        "a.sh",
        "a.src",
        "a.tf",
        "a.env",
        "Variables.ps1",
        "é ü.ipynb",
        "a.b.sh",
        "x-checkpoint.py",
    ],
)
def test_files_with_known_suffixes_are_rendered(name: str):
    """The list is the same for public and private workshops."""
    assert is_template(name)


@pytest.mark.parametrize(
    "name",
    ["a.yml", "a.j2", "a.sh.j2", "a.md", "README.md", "a.txt", "a.ps1", "variables.ps1", "MyVariables.ps1",
     "a.IPYNB", ".a.ipynb", ".env", "a-checkpoint.ipynb", "ipynb", "a.sh~", "a.ipynb.bak"],
)  # fmt: skip
def test_all_other_files_are_left_alone(name: str):
    """Playbooks and templates are lab material; hidden files and checkpoints are nobody's."""
    assert not is_template(name)


# --- As Ansible does ----


@pytest.mark.parametrize(
    ("content", "result"),
    [
        ("student{{ STDID }}", "student3"),
        ("{{STDID}}|{{  STDID  }}|{{ STDID}}", "3|3|3"),
        ("{{ hostvars[inventory_hostname]['IP-WKSHP-Ansible101'] }}", "192.0.2.7"),
        ("{{ hostvars[inventory_hostname]['HTTPPORT-WKSHP-Ansible101'] }}", "8003"),
        ("{{ inventory_hostname }}", "wod.example.org"),
        ("{{ '{{' }} x {{ '}}' }} {{ '{%' }}{{ '%}' }}{{ '{#' }}{{ '#}' }}", "{{ x }} {%%}{##}"),
        ("{% raw %}{{ range .items }}{{ .name }}{% endraw %}", "{{ range .items }}{{ .name }}"),
        ("a{# gone #}b", "ab"),
        ("[{{ NOTHING }}][{{ none }}][{{ true }}][{{ [1, 'a'] }}]", "[][][True][[1, 'a']]"),
        ("{{ OVIP[STDID] }} {{ SRVNAME[STDID] }} {{ SRVNAME[3] }}", "three srv-three srv-three"),
        ("{{ MISSING | default('spare') }}", "spare"),
        ("{% if MISSING is defined %}x{% endif %}", ""),
        ("{{ 8000 + STDID | int }}", "8003"),
    ],
)
def test_an_expression_becomes_its_value(content: str, result: str):
    """The constructs of existing workshops, byte for byte."""
    assert text(content) == result


@pytest.mark.parametrize(
    ("content", "result"),
    [
        ("a\n{% if MODEWS == 'WKSHP' %}\nb\n{% endif %}\nc\n", "a\nb\nc\n"),
        ("  {% if MODEWS == 'WKSHP' %}\nb\n  {% endif %}\nc", "  b\n  c"),
        ("{% if MODEWS == 'WKSHP' %}  \nb{% endif %}\n\nc", "  \nb\nc"),
        ("{{ STDID }}\n\n", "3\n\n"),
        ("{% raw %}\n{{ x }}\n{% endraw %}\ny", "\n{{ x }}\ny"),
        ("a\r\n{% if true %}\r\nb\r\n{% endif %}\r\nc\rd", "a\nb\nc\nd"),
        ("\ufeffx {{ STDID }}", "\ufeffx 3"),
        ("", ""),
    ],
)
def test_white_space_is_kept_as_ansible_keeps_it(content: str, result: str):
    """One newline after a block goes, all other white space stays, line ends become Unix ones."""
    assert text(content) == result


@pytest.mark.parametrize(("mode", "result"), [("WKSHP", "Workshop"), ("CHLG", "Challenge")])
def test_the_mode_chooses_the_words(mode: str, result: str):
    """MODEWS tells workshop and challenge apart."""
    content = "{% if MODEWS == 'CHLG' %}Challenge{% else %}Workshop{% endif %}"
    assert text(content, MODEWS=mode) == result


def test_values_may_hold_jinja():
    """A value is worked out when it is asked for, through any number of others, and keeps its type."""
    assert text("{{ A }}", A="{{ B }}!", B="{{ C | upper }}", C="see") == "SEE!"
    assert text("{{ A[STDID] }}", A="{{ OVIP }}") == "three"
    assert text("{{ A.b[0] }}", A={"b": ["{{ STDID }}x"]}) == "3x"
    assert text("{{ A | default('spare') }}", A="{{ NOBODY }}") == "spare"


def test_a_value_that_nobody_asks_for_does_no_harm():
    """Other workshops' variables may be unfinished."""
    assert text("x", A="{{ NOBODY }}", B="{{ B }}", C="{{ ( }}") == "x"


def test_a_file_that_is_no_text_is_left_alone():
    """A binary file named like a script comes back byte for byte."""
    content = b"\x7fELF\xff\xfe {{ STDID }}"
    assert render([Source("WKSHP-X/tool.sh", content)], SITE) == [content]


def test_many_files_keep_their_order():
    """Those that compute, those that do not, those that are no text."""
    contents = [
        b"a{{ STDID }}",
        b"\xff",
        b"{% for i in [1, 2] %}{{ i }}{% endfor %}",
        b"b",
        b"{{ [3, 1] | sort }}",
    ]
    sources = [Source(f"WKSHP-X/{number}.sh", content) for number, content in enumerate(contents)]
    assert render(sources, SITE) == [b"a3", b"\xff", b"12", b"b", b"[1, 3]"]


# --- Notebooks ----


@pytest.mark.parametrize(
    "value", ['say "hi"', "C:\\new", "two\nlines", "tab\tend", "{ } é 漢 🏁", "a\x00b\x1f", "<b>&amp;</b>"]
)
def test_no_value_can_break_a_notebook(value: str):
    """Whatever a value holds, the notebook stays JSON and the reader sees that value."""
    assert cell(notebook("# {{ VALUE }}"), VALUE=value) == f"# {value}\n"


def test_a_computed_value_cannot_break_a_notebook():
    """Values out of loops, filters and maps are escaped as well."""
    lines = "{% for v in ALL %}{{ v }}{% endfor %}", "{{ ALL | tojson }}", "{{ VALUE | e }}", "{{ OVIP }}"
    seen = cell(notebook(*lines), ALL=['"', "\\"], VALUE="<\\>", OVIP={1: '"'})
    assert seen == '"\\\n["\\"", "\\\\"]\n&lt;\\&gt;\n{1: \'"\'}\n'


def test_text_of_the_notebook_itself_is_not_escaped():
    """What comes out of a macro or a block is JSON already, the values within it are escaped once."""
    lines = (
        "{% macro m(x) %}<b>\\t{{ x }}</b>{% endmacro %}{{ m(VALUE) }}",
        "{% set s %}\\t{{ VALUE }}{% endset %}{{ s }}",
    )
    assert cell(notebook(*lines), VALUE='"') == '<b>\t"</b>\n\t"\n'


def test_an_author_can_vouch_for_a_value():
    """The filter `safe` puts a value in as it is."""
    assert cell(notebook("{{ VALUE | safe }}"), VALUE="a\\tb") == "a\tb\n"


def test_literal_braces_stay_in_a_notebook():
    """The escape idiom and raw blocks work in JSON strings."""
    assert cell(notebook("{{ '{{' }}x{{ '}}' }} {% raw %}{{ y }}{% endraw %}")) == "{{x}} {{ y }}\n"


def test_a_notebook_may_be_json_only_once_it_is_rendered():
    """Nothing is parsed before: existing notebooks have tags between the cells."""
    lines = [
        '{"cells": [',
        "{% if STDID == '3' %}",
        '{"source": ["a"]}',
        "{% else %}",
        "{}",
        "{% endif %}",
        "]}",
    ]
    content = "\n".join(lines)
    assert cell(content) == "a"


# --- Messages ----


def problem(content: str, name: str = "WKSHP-X/a.sh", **variables: Any) -> ContentProblem:
    with pytest.raises(ContentProblem) as caught:
        text(content, name, **variables)
    return caught.value


def test_an_undefined_variable_is_told_with_file_line_and_name():
    """The author learns where to look, and what to do."""
    found = problem("a\nb\n{{ PASSSTU }}\n")
    assert found.message == "WKSHP-X/a.sh, line 3: the variable 'PASSSTU' is not defined."
    assert "Define it" in found.hint


def test_an_undefined_variable_in_a_notebook_is_told_with_its_cell():
    """Cells are counted from one, as a reader does."""
    found = problem(notebook("a", "{{ PASSSTU }}"), "WKSHP-X/1-a.ipynb")
    assert found.message == "WKSHP-X/1-a.ipynb, line 8 (cell 1): the variable 'PASSSTU' is not defined."


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("{{ hostvars[inventory_hostname]['IP-WKSHP-Podman201'] }}", "IP-WKSHP-Podman201"),
        ("{{ OVIP[99] }}", "99"),
        ("{{ OVIP.x.y }}", "x"),
        ("{{ A }}", "NOBODY"),
        ("{% if PASSSTU %}{% endif %}", "PASSSTU"),
        ("{% for x in PASSSTU %}{% endfor %}", "PASSSTU"),
    ],
)
def test_whatever_is_undefined_is_named(content: str, name: str):
    """Dashed names, keys of maps, and what a variable's value needs."""
    assert f"the variable '{name}' is not defined" in problem(content, A="{{ NOBODY }}").message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{{ STDID", "line 1: "),
        ("a\n{% if x %}", "line 2: "),
        ("a\n{% nonsense %}", "line 2: Encountered unknown tag 'nonsense'"),
        ("echo ${#word}", "line 1: Missing end of comment tag"),
        ("{{ STDID | b64encode }}", "line 1: No filter named 'b64encode'"),
        ("a\n{{ 1 / 0 }}", "line 2: division by zero"),
        ("{{ STDID + 1 }}", "line 1: can only concatenate str"),
        ("{{ A }}", "the variables A -> B -> A refer to each other without an end"),
        ("{{ C }}", "the value of the variable C cannot be worked out"),
        ("{% include 'other.sh' %}", "line 1: it includes 'other.sh': expected no includes"),
    ],
)
def test_a_mistake_is_told_with_its_place(content: str, told: str):
    """No traceback, no guessing."""
    assert told in problem(content, A="{{ B }}", B="{{ A }}", C="{{ ( }}").message


# --- Hostile content ----


@pytest.mark.parametrize(
    "content",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ ''['__class__'] }}",
        "{{ '' | attr('__class__') }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ hostvars[inventory_hostname]._given }}",
        "{{ self._TemplateReference__context }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ OVIP.update({1: 2}) }}",
        "{{ lipsum() }}",
    ],
)
@pytest.mark.parametrize("name", ["WKSHP-X/a.sh", "WKSHP-X/a.ipynb"])
def test_the_sandbox_holds(content: str, name: str):
    """No way to Python's insides, to other variables' places or to anything that changes them."""
    problem(content, name)


@pytest.mark.parametrize(
    "content",
    [
        "{{ 'a' * 10 ** 10 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ 'x' | center(1000000000) }}",
        "{% for i in range(99999) %}{{ 'a' * 100000 }}{% endfor %}",
        "{% set n = namespace(s='a') %}{% for i in range(60) %}{% set n.s = n.s * 2 %}{% endfor %}{{ n }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ range(10 ** 9) }}",
        "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
        "{{ " + "1+" * 60_000 + "1 }}",
        "{% if true %}" * 3000 + "{% endif %}" * 3000,
        "{{ STDID }}" * 20_000,
    ],
)
def test_a_template_that_grows_without_end_is_refused_quickly(content: str):
    """Texts of gigabytes, endless recursion and endless nesting cost a moment, not the worker."""
    start = time.monotonic()
    problem(content)
    assert time.monotonic() - start < 60


def test_a_template_that_loops_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch):
    """The process that renders it has its seconds, then it is over."""
    monkeypatch.setattr(confined, "SECONDS", 1)
    start = time.monotonic()
    loop = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    assert "WKSHP-X/a.sh takes more than 1 s" in problem(loop).message
    assert time.monotonic() - start < 60


def test_nothing_is_computed_while_a_file_is_compiled(monkeypatch: pytest.MonkeyPatch):
    """Constant expressions, however huge, are left to the confined process."""
    asked: list[str] = []

    def note(sources: list[Source], variables: Any) -> list[bytes]:
        asked.extend(source.path for source in sources)
        return [b"" for _ in sources]

    monkeypatch.setattr(confined, "render", note)
    text("{{ 10 ** 10 ** 10 }}{{ 'a' * 10 ** 12 }}{% if 9 ** 9 ** 9 == 1 %}{% endif %}")
    assert asked == ["WKSHP-X/a.sh"]


@pytest.mark.parametrize(
    "content",
    [
        "{{ STDID * 2 }}",
        "{{ STDID.upper() }}",
        "{% for x in OVIP %}{% endfor %}",
        "{% set x = 1 %}",
        "{{ STDID | center }}",
    ],
)
def test_whatever_computes_is_confined(content: str, monkeypatch: pytest.MonkeyPatch):
    """Only looking values up happens in the worker itself."""
    monkeypatch.setattr(confined, "render", lambda sources, variables: [b"confined" for _ in sources])
    assert text(content) == "confined"


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("{{ A }}", "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"),
        ("{{ A }}", "{{ 'a' * 10 ** 10 }}"),
        ("{{ A[0].b }}", [{"b": "{{ 'a' * 10 ** 10 }}"}]),
        ("{{ B }}", "{{ STDID.upper() }}"),
        ("{{ A }}", "x" * 100_000),
        ("{{ A }}", {str(number): [number] for number in range(10_000)}),
        ("{{ " + " ~ ".join(["A"] * 202) + " }}", "x"),
        ("{{ [" + ", ".join(["A|upper"] * 201) + "] }}", "x"),
    ],
)
@pytest.mark.parametrize("name", ["WKSHP-X/a.sh", "WKSHP-X/a.ipynb"])
def test_a_value_that_computes_or_is_large_is_confined_too(
    content: str, value: Any, name: str, monkeypatch: pytest.MonkeyPatch
):
    """Repositories give variables their values: those are as hostile as files, however far away they are."""
    monkeypatch.setattr(confined, "render", lambda sources, variables: [b"confined" for _ in sources])
    chain = {"B": "{{ C }}", "C": "{{ A }}"}
    assert text(content, name, A=value, **chain) == "confined"


def test_values_of_existing_sites_are_not_confined(monkeypatch: pytest.MonkeyPatch):
    """Maps of a value for each of 1700 seats, sums of ports, a thousand expressions: looked up here, at once."""
    monkeypatch.setattr(confined, "render", lambda sources, variables: [b"confined" for _ in sources])
    seats = {number: f"10.0.{number // 256}.{number % 256}" for number in range(1700)}
    content = "{{ OVIP[STDID] }} {{ PORT }} {% if MODEWS == 'CHLG' %}c{% endif %}{{ BRANDINGWOD }}\n" * 600
    assert text(content, OVIP=seats, PORT="{{ BASEPORT + STDID | int }}").startswith("10.0.0.3 8003 ")


def test_all_files_together_have_some_seconds(monkeypatch: pytest.MonkeyPatch):
    """Thousands of files, each within its limits, cannot keep the worker busy."""
    monkeypatch.setattr(rendering, "SECONDS", 0.2)
    sources = [Source(f"WKSHP-X/{n}.sh", b"{{ STDID }}%d" % n + b"{{ STDID }}" * 3000) for n in range(100)]
    with pytest.raises(ContentProblem, match=r"all files up to WKSHP-X/\d+\.sh takes more than"):
        render(sources, SITE)


def test_what_is_kept_of_former_files_is_bounded_by_the_memory_that_it_takes():
    """A file of expressions takes a hundred times its length once it is compiled."""
    dense, text_alone = b"{{ a }}" * 1000, b"a" * 7000
    assert rendering._cost(dense) > 1000 * 700 > 10 * rendering._cost(text_alone)


def test_the_confined_process_is_given_nothing(monkeypatch: pytest.MonkeyPatch):
    """No environment of its starter's, where secrets may be, and no open files."""
    given: dict[str, Any] = {}
    run = subprocess.run

    def note(*words: Any, **named: Any) -> Any:
        given.update(named)
        return run(*words, **named)

    monkeypatch.setattr(subprocess, "run", note)
    assert text("{% for i in range(3) %}{{ i }}{% endfor %}") == "012"
    assert set(given["env"]) == {"PYTHONPATH"}
    assert given.get("close_fds", True)


def test_the_confined_process_gives_up_its_rights():
    """It keeps no capability, and the kernel ends it before others when memory is short."""
    show = "print(open('/proc/self/status').read(), open('/proc/self/oom_score_adj').read())"
    words = [sys.executable, "-c", f"from notebooks_loader import confined; confined._confine(0); {show}"]
    told = subprocess.run(
        words, capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    ).stdout
    rights = dict(re.findall(r"(Cap\w+):\s+(\w+)", told))
    assert {int(rights[kind], 16) for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}
    assert told.split()[-1] == "1000"


def test_a_huge_template_is_refused():
    """Files of data are not to be rendered."""
    content = b"a" * (rendering.LARGEST_TEMPLATE + 1)
    with pytest.raises(ContentProblem, match="more than 32 MiB"):
        render([Source("WKSHP-X/a.ipynb", content)], SITE)


def test_all_results_together_are_bounded(monkeypatch: pytest.MonkeyPatch):
    """Many files, each within its limit, cannot fill the memory."""
    monkeypatch.setattr(rendering, "LARGEST_RESULTS", 1000)
    sources = [Source(f"WKSHP-X/{number}.sh", b"{{ LONG }}") for number in range(3)]
    with pytest.raises(ContentProblem, match="more than"):
        render(sources, {"LONG": "x" * 400})
