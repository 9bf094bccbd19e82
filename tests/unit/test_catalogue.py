"""The workshops of a site, found and described."""

from pathlib import Path

import pytest

from notebooks_loader.catalogue import Catalogue, Workshop
from wodctl.errors import ContentProblem

SAMPLES = Path(__file__).resolve().parents[2] / "notebooks-loader" / "workshops"


def add(root: Path, name: str, metadata: str | bytes | None) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    if metadata is not None:
        (folder / "wod.yml").write_bytes(metadata.encode() if isinstance(metadata, str) else metadata)
    return folder


def described(tmp_path: Path, metadata: str | bytes | None) -> Workshop:
    add(tmp_path, "WKSHP-X", metadata)
    return Catalogue(tmp_path).workshop("WKSHP-X")


def test_a_complete_description_is_read_with_its_types(tmp_path: Path):
    """Every key of a usual wod.yml arrives as what it means."""
    about = described(
        tmp_path,
        "%YAML 1.1\n# Catalogue\n---\nname: X 101\ndescription: “All” of it\nactive: true\ncapacity: 20\n"
        "priority: 2\nrange: [7, 12]\nreset: true\nldap: false\nreplayId: 31\nvarpass: false\n"
        "compile: get-a.shc, get-b.shc\nworkshopImg: '???'\nbadgeImg: WOD-Badge-X\nbeta: false\n"
        "category: ['Open Source', 'AI']\nduration: 2\npresenter: Ada\nrole: Author\navatar: /img/ada.png\n"
        "replayLink: https://youtu.be/\nmonoappliance: true",
    ).metadata
    assert (about.name, about.description) == ("X 101", "“All” of it")
    assert (about.active, about.reset, about.ldap, about.beta) == (True, True, False, False)
    assert (about.capacity, about.priority, about.replayId, about.duration) == (20, 2, 31, 2)
    assert about.range == (7, 12)
    assert about.compile == ("get-a.shc", "get-b.shc")
    assert about.category == ("Open Source", "AI")
    assert (about.workshopImg, about.badgeImg, about.replayLink) == (
        "???",
        "WOD-Badge-X",
        "https://youtu.be/",
    )
    assert (about.monoappliance, about.multiappliance, about.varpass) == (True, None, False)


def test_a_workshop_without_a_description_has_defaults(tmp_path: Path):
    """A folder alone is a workshop of four hours, named after itself, not offered to anybody."""
    workshop = described(tmp_path, None)
    assert workshop.duration_hours == 4
    assert (workshop.metadata.name, workshop.metadata.active, workshop.metadata.range) == ("X", False, None)


@pytest.mark.parametrize("text", ["", "---\n", "duration:\n", "duration: ''\n"])
def test_an_empty_description_has_defaults(tmp_path: Path, text: str):
    """Keys without a value count as absent."""
    assert described(tmp_path, text).duration_hours == 4


def test_a_tab_after_a_colon_is_accepted(tmp_path: Path):
    """Existing files have one, which YAML itself forbids."""
    about = described(tmp_path, "replayLink:\thttps://x\nduration: \t 2\ndescription: 'a:\tb'\n").metadata
    assert (about.replayLink, about.duration, about.description) == ("https://x", 2, "a:\tb")


@pytest.mark.parametrize("text", ["[1981-1985]", "1981-1985", "[1981, 1985]", "['1981', '1985']"])
def test_a_range_may_be_written_as_existing_files_do(tmp_path: Path, text: str):
    """A dash between the seats is as good as a comma."""
    assert described(tmp_path, f"range: {text}\n").metadata.range == (1981, 1985)


@pytest.mark.parametrize(
    ("text", "value"), [("yes", True), ("'true'", True), ("False", False), ("'no'", False)]
)
def test_truth_may_be_written_in_several_ways(tmp_path: Path, text: str, value: bool):
    """Words in quotes are understood as well."""
    assert described(tmp_path, f"active: {text}\n").metadata.active is value


@pytest.mark.parametrize("text", ["false", "'null'", "", "[]"])
def test_nothing_to_compile_may_be_written_in_several_ways(tmp_path: Path, text: str):
    """Portals write a word where there is nothing."""
    assert described(tmp_path, f"compile: {text}\n").metadata.compile == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("capacity: many", "capacity is 'many': expected a whole number"),
        ("active: perhaps", "active is 'perhaps': expected true or false"),
        ("range: [9, 3]", "range is '[9, 3]': expected the first and the last seat"),
        ("range: [1, 2, 3]", "range is '[1, 2, 3]': expected the first and the last seat"),
        ("duration: -1", "duration is '-1': expected hours"),
        ("duration: .inf", "duration is 'inf': expected hours"),
        ("egress: closed", "egress is 'closed': expected open, none, or a list of names"),
        ("egress: []", "expected open, none"),
        ("egress: [open, git.example.net]", "expected open, none"),
        ("egress: [https://git.example.net]", "expected open, none"),
        ("egress: [192.0.2.300]", "expected open, none"),
        ("egress: ['2001:db8::/32']", "expected open, none"),
        ("egress: [192.0.2.1/24]", "expected open, none"),
        ('egress: ["a.b; accept"]', "expected open, none"),
        ("- a\n- b", "holds a list: expected lines of `key: value`"),
        ("name: [unclosed\n", "WKSHP-X/wod.yml is not YAML"),
        (b"name: \xff\n", "WKSHP-X/wod.yml is not UTF-8"),
        (b"#" * 300_000, "more than 256 KiB"),
        ("name: !!python/object/apply:os.system [id]", "WKSHP-X/wod.yml is not YAML"),
    ],
)
def test_a_wrong_value_is_told_with_its_file(tmp_path: Path, text: str | bytes, told: str):
    """The message names the file, the key, what is there and what was expected."""
    with pytest.raises(ContentProblem) as caught:
        described(tmp_path, text)
    assert told in caught.value.message
    assert "WKSHP-X/wod.yml" in caught.value.message


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("", None),
        ("egress: open", None),
        ("egress: none", ()),
        (
            "egress: [Git.example.net., 192.0.2.0/24, 198.51.100.7]",
            ("git.example.net", "192.0.2.0/24", "198.51.100.7"),
        ),
    ],
)
def test_a_workshop_says_where_its_seats_may_go(tmp_path: Path, text: str, places: tuple[str, ...] | None):
    """Anywhere, nowhere, or to some names, addresses and networks."""
    assert described(tmp_path, text).metadata.egress == places


def test_a_challenge_is_the_same_folder(tmp_path: Path):
    """CHLG-X is what WKSHP-X is, under the folder's name."""
    add(tmp_path, "WKSHP-X", None)
    catalogue = Catalogue(tmp_path)
    assert catalogue.workshop("CHLG-X") == catalogue.workshop("WKSHP-X")
    assert catalogue.workshop("CHLG-X").name == "WKSHP-X"


def test_public_content_beats_private_and_private_metadata_beats_public(tmp_path: Path):
    """Where both have a workshop, the notebooks are the public ones and the private keys win one by one."""
    public = add(tmp_path / "public", "WKSHP-X", "name: Public\nduration: 2\ncapacity: 5\n")
    add(tmp_path / "private", "WKSHP-X", "name: Private\nduration: 3\n")
    workshop = Catalogue(tmp_path / "public", tmp_path / "private").workshop("WKSHP-X")
    assert (workshop.path, workshop.private) == (public, False)
    assert (workshop.metadata.name, workshop.metadata.duration, workshop.metadata.capacity) == (
        "Private",
        3,
        5,
    )


def test_a_private_workshop_is_found(tmp_path: Path):
    """What only the private folder has is delivered from there."""
    (tmp_path / "public").mkdir()
    private = add(tmp_path / "private", "WKSHP-X", None)
    workshop = Catalogue(tmp_path / "public", tmp_path / "private").workshop("WKSHP-X")
    assert (workshop.path, workshop.private) == (private, True)


def test_all_workshops_are_listed_once_in_order(tmp_path: Path):
    """Both folders together; what is no workshop is passed over."""
    for folder in (
        "public/WKSHP-B",
        "private/WKSHP-A",
        "private/WKSHP-B",
        "public/.git",
        "public/scripts",
        "public/WKSHP-..x",
    ):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "public/WKSHP-file").touch()
    catalogue = Catalogue(tmp_path / "public", tmp_path / "private")
    assert catalogue.names() == ["WKSHP-A", "WKSHP-B"]
    assert [workshop.name for workshop in catalogue.all()] == ["WKSHP-A", "WKSHP-B"]
    assert Catalogue(tmp_path / "nowhere").all() == []


@pytest.mark.parametrize(
    "name",
    [
        "",
        "WKSHP-",
        "WKSHP",
        "X",
        "WKSHP-../../etc",
        "WKSHP-a..b",
        "WKSHP-a/b",
        "WKSHP-.x",
        "wkshp-X",
        "WKSHP-X\n",
        "CHLG-é",
    ],
)
def test_a_wrong_name_is_refused(tmp_path: Path, name: str):
    """Names cannot lead out of the folder."""
    with pytest.raises(ContentProblem, match="is no name of a workshop"):
        Catalogue(tmp_path).workshop(name)


def test_an_unknown_workshop_is_refused_with_advice(tmp_path: Path):
    """The message says where it was looked for, the hint how to see those that there are."""
    with pytest.raises(ContentProblem) as caught:
        Catalogue(tmp_path, tmp_path / "private").workshop("CHLG-Nothing")
    assert (
        caught.value.message == f"No workshop called WKSHP-Nothing in {tmp_path} or {tmp_path / 'private'}."
    )
    assert "workshop list" in caught.value.hint


def test_the_samples_have_complete_descriptions():
    """Each names every key that portals know; it is offered unless its appliance has yet to be built."""
    keys = set(Workshop.__dataclass_fields__["metadata"].type.__dataclass_fields__) - {
        "egress",
        "lab",
    }  # ours
    for workshop in Catalogue(SAMPLES).all():
        needs = SAMPLES.parents[1] / "images" / "appliances" / workshop.name.removeprefix("WKSHP-")
        assert workshop.metadata.active != needs.is_dir(), workshop.name
        written = {line.partition(":")[0] for line in (workshop.path / "wod.yml").read_text().splitlines()}
        assert keys - {"secrets"} <= written, workshop.name
