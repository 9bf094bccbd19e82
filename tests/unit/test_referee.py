"""Ansible as the referee: what it finds and renders is what we render, byte for byte."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from notebooks_loader import tree
from notebooks_loader.catalogue import Catalogue
from notebooks_loader.delivery import deliver, is_template

ADDRESS = "{{ hostvars[inventory_hostname]['IP-WKSHP-X'] }}"
CORPUS = {
    "0-ReadMeFirst.ipynb": '{"cells": [], "nbformat": 4, "a": "{% if MODEWS == \'CHLG\' %}Challenge{% else %}'
    'Workshop{% endif %} {{BRANDING }} {{  STDID}}"}',
    "1-raw.ipynb": '{"cells": [\n{% raw %}\n"{{range .items}}{{.metadata.name}}{{end}}"\n{% endraw %}\n]}\n',
    "2-valid-once-rendered.ipynb": '{"cells": [],\n{% raw %}\n"a": "{{closure}}",\n{% endraw %}\n"nbformat": 4}\n\n',
    "3-signs.ipynb": "\"{{ '{{' }} x {{ '}}' }} {{ '{%' }} {{ '%}' }} {{ '{#' }} {{ '#}' }}\"",
    "4-address.ipynb": f'"ssh {ADDRESS}"\n',
    "5-ünï cödé.ipynb": '"é {{ UMLAUT }}"',
    "blanks.sh": "a\n  {% if true %}\n  b\n  {% endif %}\nc {% if true -%}\n   d{%- endif %}\n{# gone #}\ne\n\n\n",
    "ends-with-a-block.sh": "a{% if true %}b{% endif %}\n",
    "ends-with-a-comment.sh": "a\n{# gone #}\n\n",
    "ends-with-a-value.sh": "a {{ LINES }}\n",
    "no-newline.sh": "{{ STDID }}",
    "one-newline.sh": "{{ STDID }}\n",
    "dos.sh": "a {{ STDID }}\r\n{% if true %}\r\nb\r\n{% endif %}\r\n",
    "types.py": "{{ NUMBER }} {{ FRACTION }} {{ YES }} {{ LIST }} {{ MAP }} {{ NUMBER + 1 }} {{ LIST | join('-') }}\n",
    "nested.yaml": "{{ DEEP }} {{ SRVNAME[STDID] }} {{ MAP.key }} {{ BLOCK }}|{{ TYPED[0] }}|\n",
    "loop.yaml": "{% for one in LIST %}{{ loop.index }}{{ one }},{% endfor %}\n",
    "escapes.src": "{{ QUOTED }} {{ '<&>' }} {{ '%s' | format('x') }} {% set a = 'y' %}{{ a }}\n",
    "main.tf": '${var.x} "{{ STDID }}"\n',
    "Data/with blanks.env": "{{ STDID }}\n",
    "Variables.ps1": "$a = '{{ BRANDING }}'\n",
    ".config/inner.yaml": "{{ STDID }}\n",
    ".hidden.sh": "{{ untouched }}",
    "Other.ps1": "{{ untouched }}",
    "playbook.yml": "{{ untouched }}",
    "README.md": "{{ untouched }}",
    "templates/lab.txt.j2": "{{ untouched }}",
    ".ipynb_checkpoints/1-checkpoint.ipynb": "{{ untouched }}",
    "script.sh.j2": "{{ untouched }}",
}  # fmt: skip
VARIABLES: dict[str, Any] = {
    "BRANDING": "Workshops",
    "UMLAUT": "ü",
    "NUMBER": 7,
    "FRACTION": 0.5,
    "YES": True,
    "LIST": ["a", "b"],
    "MAP": {"key": "value"},
    "DEEP": "{{ BRANDING }}/{{ NUMBER }}",
    "LINES": "one\ntwo\n\n",
    "BLOCK": "{{ BRANDING }}\n{{ NUMBER }}\n",
    "TYPED": "{{ LIST }}\n",
    "SRVNAME": {"3": "three"},
    "QUOTED": "\"double\" 'single' \\ <b>&amp;",
    "IP-WKSHP-X": "192.0.2.7",
}
PLAYBOOK = [
    {
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [
            {
                "ansible.builtin.find": {
                    "paths": "{{ source }}", "recurse": True, "excludes": "*-checkpoint.ipynb",
                    "patterns": ["*.ipynb", "*.yaml", "*.py", "*.sh", "*.src", "*.tf", "*.env", "Variables.ps1"],
                },
                "register": "found",
            },
            {
                "ansible.builtin.template": {
                    "src": "{{ item.path }}", "dest": "{{ item.path | replace(source, target) }}",
                },
                "loop": "{{ found.files }}",
            },
        ],
    }
]  # fmt: skip


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, bytes]]:
    """What we and what Ansible made of each file that one of us rendered."""
    root = tmp_path_factory.mktemp("referee")
    source, home, theirs = root / "workshops" / "WKSHP-X", root / "home", root / "theirs"
    for name, content in CORPUS.items():
        for folder in (source, theirs):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if folder is source else b"")
    home.mkdir()
    workshop = Catalogue(root / "workshops").workshop("WKSHP-X")
    deliver(workshop, "CHLG", 3, VARIABLES, home, os.geteuid(), os.getegid())
    names = {"source": str(source), "target": str(theirs), "STDID": "3", "MODEWS": "CHLG",
             "ansible_python_interpreter": sys.executable}  # fmt: skip
    (root / "variables.json").write_text(json.dumps(VARIABLES | names))
    (root / "playbook.json").write_text(json.dumps(PLAYBOOK))
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "--inventory", "localhost,", "--connection", "local",
         "--extra-vars", f"@{root}/variables.json", root / "playbook.json"],
        env=os.environ | {"LC_ALL": "C.UTF-8"}, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    ours = {entry.path for entry in tree.scan(source) if is_template(entry)}
    rendered = {name for name in CORPUS if (theirs / name).read_bytes() or name in ours}
    return {name: ((home / "WKSHP-X" / name).read_bytes(), (theirs / name).read_bytes()) for name in rendered}


def test_the_same_files_are_templates(delivered: dict[str, tuple[bytes, bytes]]):
    """Neither more nor fewer than Ansible's find module finds: what it left alone is empty here."""
    assert {name for name, (_, theirs) in delivered.items() if not theirs} == set()
    untouched = {name for name, content in CORPUS.items() if "untouched" in content}
    assert set(delivered) == set(CORPUS) - untouched


@pytest.mark.parametrize("name", [name for name, content in CORPUS.items() if "untouched" not in content])
def test_a_file_is_rendered_as_ansible_renders_it(delivered: dict[str, tuple[bytes, bytes]], name: str):
    """Blocks, blanks, line ends, types, variables within variables: byte for byte."""
    ours, theirs = delivered[name]
    assert ours == theirs
