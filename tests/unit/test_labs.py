"""Which lab a workshop is given in, and how a folder becomes one."""

import json
import re
from pathlib import Path

import pytest

from notebooks_loader.catalogue import Catalogue
from notebooks_loader.kernels import lab_of
from tests.unit.test_builder import FILES, ROOT, Checkout
from wodctl.adapters.builder import Builder
from wodctl.adapters.configuration import load
from wodctl.adapters.labs import Labs, labs
from wodctl.adapters.workshops import Workshops
from wodctl.errors import ContentProblem

LABS = {
    "lab": {"python3", "bash"},
    "jvm": {"java", "kotlin"},
    "go": {"gophernotes"},
    "all": {"java", "gophernotes"},
}
BAKE = (
    FILES["images/docker-bake.hcl"]
    + """
target "lab" {
  dockerfile = "images/mail/Dockerfile"
}

target "toolchain" {
  dockerfile = "images/base/Dockerfile"
}

target "desk" {
  dockerfile = "images/mail/Dockerfile"
  contexts   = { lab = "target:lab" }
}

target "image" {
  inherits = ["site"]
}
"""
)


def workshop(root: Path, *kernels: str, wod: str = ""):
    folder = root / "WKSHP-X"
    folder.mkdir()
    (folder / "wod.yml").write_text(wod)
    for number, kernel in enumerate(kernels):
        # JSON only once it is rendered, as some notebooks are.
        text = '{"cells": [{{ CELLS }}], "metadata": {"kernelspec": {"display_name": "x",\n "name": "%s"}}}'
        (folder / f"{number}.ipynb").write_text(text % kernel)
    return Catalogue(root).workshop("WKSHP-X")


@pytest.mark.parametrize(
    ("kernels", "lab"),
    [
        ([], "lab"),
        (["python3", "bash"], "lab"),
        (["python3", "kotlin"], "jvm"),
        (["gophernotes"], "go"),  # the smaller of the two that have it
        (["java", "gophernotes"], "all"),
        (["fortran"], "lab"),  # nobody has it: `workshop validate` tells
        (["fortran", "java", "kotlin"], "jvm"),
    ],
)
def test_the_kernels_of_the_notebooks_imply_the_lab(tmp_path: Path, kernels: list[str], lab: str):
    """The smallest lab with all of them; everybody's where it has them, or where nobody has."""
    assert lab_of(workshop(tmp_path, *kernels), LABS) == lab


def test_a_workshop_may_name_its_lab(tmp_path: Path):
    """`lab` of wod.yml wins over the kernels; a name that no folder has is refused with those that there are."""
    declared = workshop(tmp_path, "python3", wod="lab: go")
    assert lab_of(declared, LABS) == "go"
    with pytest.raises(ContentProblem, match=r"lab is 'go'; there are jvm, lab\."):
        lab_of(declared, {"lab": set(), "jvm": set()})


def test_a_lab_that_is_not_built_refuses_the_workshop_before_a_seat_is_touched(tmp_path: Path):
    """The reason says who builds it; nothing else of the site is in the way."""
    settings = load(ROOT, tmp_path, {}, {})[0]
    told = Labs.told({"WOD_LABS": "lab=wod/lab:1", "WOD_LAB_KERNELS": "lab=python3,bash jvm=java,kotlin"})
    workshops = Workshops(settings, tmp_path, labs=told)
    with pytest.raises(ContentProblem, match="WKSHP-X is given in the lab jvm, which is not built"):
        workshops.lab(workshop(tmp_path, "java"))


def test_a_folder_is_a_lab_without_a_line_elsewhere(tmp_path: Path):
    """Of the checkout or of the private repository, which wins; what is no lab, or leads elsewhere, is none."""
    root, private = tmp_path / "root", tmp_path / "private"
    for place, name in ((root, "a"), (root, "b"), (private, "b"), (private, "Bad_name"), (private, "lab")):
        kernel = place / "images/labs" / name / "kernels" / f"{place.name}-kernel"
        kernel.mkdir(parents=True)
        (kernel / "kernel.json").write_text("{}")
        (kernel.parents[1] / "Dockerfile").write_text("FROM lab\n")
    (private / "images/labs/c").mkdir()
    (private / "images/labs/d").symlink_to(root / "images/labs/a")
    found = labs(root, private)
    assert {name: sorted(lab.kernels) for name, lab in found.items()} == {
        "lab": [], "a": ["root-kernel"], "b": ["private-kernel"],
    }  # fmt: skip


def test_a_lab_is_built_anew_when_its_folder_or_everybodys_lab_changes(tmp_path: Path):
    """And then only; an author's desk in it goes with it."""
    checkout = Checkout(tmp_path)
    for name, text in (
        FILES | {"images/docker-bake.hcl": BAKE, "images/labs/x/Dockerfile": "FROM lab\nCOPY kernels /k\n"}
    ).items():
        checkout.write(name, text)

    checkout.write("images/labs/x/kernels/k/kernel.json", "{}")

    def tags() -> dict[str, str]:
        settings = load(ROOT, tmp_path / "state", {"WODBASEIMAGE": "debian:13"}, {})[0]
        builder = Builder(tmp_path, tmp_path / "state", settings)
        return {name: builder.tag(name) for name in ("lab", "desk", "desk/x", *builder.workshop_labs())}

    before = tags()
    assert re.fullmatch(r"wod/labs/x:[0-9a-f]{12}", before["labs/x"])
    checkout.write("images/labs/x/kernels/k/kernel.json", "{ }")
    own = tags()
    assert {name for name in own if own[name] != before[name]} == {"labs/x", "desk/x"}
    checkout.write("images/mail/Dockerfile", "FROM scratch\nLABEL a=b\n")
    assert {name for name in own if own[name] == tags()[name]} == set()


def test_the_labs_that_come_with_the_software_are_complete():
    """Each stands on everybody's lab, says what starts its kernels, runs as nobody, and has its versions pinned."""
    found = labs(ROOT, None)
    assert {name for name in found if name != "lab"} == {"go", "jvm", "powershell", "rust"}
    for lab in found.values():
        for kernel in lab.kernels:
            told = json.loads((lab.folder / f"kernels/{kernel}/kernel.json").read_text())
            assert "{connection_file}" in told["argv"] and told["display_name"] and told["language"]
        if lab.name != "lab":
            recipe = (lab.folder / "Dockerfile").read_text()
            assert (
                lab.kernels
                and "\nFROM lab\n" in f"\n{recipe}"
                and recipe.rstrip().endswith("USER 65534:65534")
            )
            assert re.search(r"_VERSION=\d|requirements\.lock", recipe)
