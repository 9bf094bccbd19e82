"""The settings of a site: layers, types, refusals that name file and line."""

from pathlib import Path

import pytest

from wodctl.adapters import configuration
from wodctl.errors import ConfigProblem
from wodctl.model.settings import Settings, size_in_bytes

ROOT = Path(__file__).resolve().parents[2]


def load(state: Path, environment: dict | None = None, options: dict | None = None) -> tuple[Settings, dict]:
    return configuration.load(ROOT, state, environment or {}, options or {})


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_defaults_are_valid_and_complete(tmp_path):
    """A site without any file of its own gets the documented defaults."""
    settings, origins = load(tmp_path)
    assert (settings.WODUSERMIN, settings.WODUSERMAX, settings.WODPOSTPORT) == (1, 100, 10025)
    assert origins["WODPOSTPORT"].startswith(str(ROOT / "conf" / "defaults.yml") + ":")


def test_each_layer_beats_the_one_before(tmp_path):
    """Group's file, private overlay, remembered options, environment, command line: the later wins."""
    private = tmp_path / "private"
    write(
        tmp_path / "conf/production.yml",
        f"WODUSERMAX: 20\nWODPRIVDIR: {private}\nUIDBASE: 3000\nGIDBASE: 3000\n",
    )
    write(private / "ansible/group_vars/production", "WODUSERMAX: 30\nGIDBASE: 4000\n")
    assert load(tmp_path)[0].WODUSERMAX == 30
    configuration.remember(tmp_path, {"WODUSERMAX": 40})
    assert load(tmp_path)[0].WODUSERMAX == 40
    assert load(tmp_path, {"WODUSERMAX": "50"})[0].WODUSERMAX == 50
    settings, origins = load(tmp_path, {"WODUSERMAX": "50"}, {"WODUSERMAX": 60})
    assert (settings.WODUSERMAX, settings.UIDBASE, settings.GIDBASE) == (60, 3000, 4000)
    assert (origins["WODUSERMAX"], origins["UIDBASE"]) == (
        "command line",
        f"{tmp_path}/conf/production.yml:3",
    )


def test_the_group_chosen_by_an_option_decides_which_file_is_read(tmp_path):
    """`-g staging` reads staging.yml and not production.yml."""
    write(tmp_path / "conf/production.yml", "WODUSERMAX: 20\n")
    write(tmp_path / "conf/staging.yml", "WODUSERMAX: 7\n")
    assert load(tmp_path, options={"WODGROUP": "staging"})[0].WODUSERMAX == 7


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("WODUSERMIN: 1\nWODUSERMXA: 5\n", 2, "Did you mean WODUSERMAX"),
        ("WODPOSTPORT: many\n", 1, "expected a whole number"),
        ("WODPOSTPORT: true\n", 1, "expected a whole number"),
        ("# comment\nWODPOSTPORT: 70000\n", 2, "a port from 1 to 65535"),
        ("WODUSERMIN: 9\nWODUSERMAX: 8\n", 2, "from WODUSERMIN"),
        ("UIDBASE: 1000\n", 1, "UIDBASE"),
        ("WODPOSTPORT: 8000\n", 1, "another port than WODBEPORT"),
        ("WODBEPROTO: https\n", 1, "WODBEEXTPROTO"),
        ("WODSEATNETWORK: 8.8.8.0/20\n", 1, "a private IPv4 network"),
        ("WODSEATNETWORK: 10.9.9.0/25\n", 1, "room for 100 seats"),
        ("WODSEATNETWORK: 10.9.9.1/20\n", 1, "a private IPv4 network"),
        ("WODNOBO: /nonexistent\n", 1, "no such folder"),
        ("WODSEATMEMORY: 10M\n", 1, "at least 256M"),
        ('WODAPPLIANCEHOSTS: ["https://lab"]\n', 1, "ssh://USER@HOST"),
        ('WODAPPLIANCEHOSTS: ["tcp://lab", "ssh://wod@lab"]\n', 1, "each host once"),
        ("WODPOSTNETWORKS: [nowhere]\n", 1, "WODPOSTNETWORKS"),
        ("WODUSERMAX: 5\nWODUSERMAX: 6\n", 2, "second time"),
        ("WODUSERMAX: [\n", 2, ""),
        ("WODSENDER: 'a b@c'\n", 1, "a mail address"),
        ('WODSENDER: "a@b\\nmynetworks=0.0.0.0/0"\n', 1, "a mail address"),
        ("just words\n", 1, "NAME: value"),
        ("variables:\n  WODUSERMAX: 5\n", 1, "setting of ours"),
    ],
)
def test_a_wrong_line_is_refused_with_file_and_line(tmp_path, text, line, words):
    """The operator reads which file, which line and what was expected."""
    file = tmp_path / "conf/production.yml"
    write(file, text)
    with pytest.raises(ConfigProblem) as refused:
        load(tmp_path)
    assert f"{file}:{line}" in refused.value.message
    assert words in refused.value.message + refused.value.hint


def test_derived_names_follow_the_original_installer(tmp_path):
    """Portal follows backend, API follows portal, external follows internal, the seats' base follows the number."""
    settings, origins = load(
        tmp_path,
        options={
            "WODBEFQDN": "jup.example.net",
            "WODBEPORT": 8123,
            "WODAPIDBFQDN": "api.example.net",
            "WODBENBR": 2,
        },
    )
    assert settings.WODFEFQDN == "jup.example.net"
    assert (settings.WODBEEXTFQDN, settings.WODBEEXTPORT) == ("jup.example.net", 8123)
    assert settings.WODAPIDBEXTFQDN == "api.example.net"
    assert settings.WODBASESTDID == 200
    assert origins["WODFEFQDN"] == "WODBEFQDN"


def test_names_of_notebooks_are_accepted(tmp_path):
    """Dashed families, own variables and the article's short names reach the notebooks."""
    write(
        tmp_path / "conf/production.yml",
        "IP-WKSHP-Docker101: 192.0.2.7\nUSERMAX: 12\nvariables:\n  OCENDPOINT: oc\n",
    )
    settings, _ = load(tmp_path)
    assert settings.variables["IP-WKSHP-Docker101"] == "192.0.2.7"
    assert settings.variables["OCENDPOINT"] == "oc"
    assert settings.WODUSERMAX == 12


def test_a_private_overlay_may_hold_variables_but_no_mistyped_setting(tmp_path):
    """Names that are not ours are variables there, unless they are almost ours."""
    private = tmp_path / "private"
    write(tmp_path / "conf/production.yml", f"WODPRIVDIR: {private}\n")
    write(
        private / "ansible/group_vars/all.yml",
        "OCENDPOINT: oc\nWODDISTRIB: ubuntu-24.04\nWODAPIDBURL: http://x\n",
    )
    assert load(tmp_path)[0].variables["OCENDPOINT"] == "oc"
    write(private / "ansible/group_vars/all.yml", "WODUSERMXA: 5\n")
    with pytest.raises(ConfigProblem, match=r"all\.yml:1"):
        load(tmp_path)


def test_services_read_what_was_rendered(tmp_path):
    """The rendered document gives the same settings back."""
    settings, _ = load(tmp_path)
    (tmp_path / "settings.json").write_text(settings.to_json())
    assert Settings.from_json(tmp_path / "settings.json") == settings


def test_sizes_are_binary():
    """2G is 2 x 2^30 bytes, and anything else is refused."""
    assert size_in_bytes("2G") == 2 * 2**30
    with pytest.raises(ConfigProblem):
        size_in_bytes("2 GB")
