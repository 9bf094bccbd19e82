"""Reads the layers of a site's configuration, keeping the file and line of each value."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from notebooks_loader import vault
from wodctl.adapters import repositories
from wodctl.errors import ConfigProblem
from wodctl.model import settings as model
from wodctl.model.settings import Entry, Layer, Settings

OPTIONS_FILE = "options.yml"
"""What `wodctl up` was told by options, remembered for the commands that follow; below the state directory."""

SECRETS = ("OPNSENSEKEY", "OPNSENSESEC", "VAULTPWD", "WODLDAPPWD")
"""Under these names private repositories may hold passwords of the site: they must not become settings, which
notebooks can show. Here they are files."""


def load(
    root: Path, state: Path, environment: Mapping[str, str], options: Mapping[str, Any]
) -> tuple[Settings, dict[str, str]]:
    """The effective settings and the origin of each; see conf/defaults.yml for the layers.

    `options` are those of the command at hand. Raises ConfigProblem with file and line.
    """
    remembered = read_layer(state / OPTIONS_FILE)
    given = {name: Entry(value, "command line") for name, value in options.items()}
    from_environment = {
        name: Entry(value, "environment") for name, value in environment.items() if model.is_setting(name)
    }
    defaults = read_layer(root / "conf" / "defaults.yml")
    outer = [remembered, from_environment, given]
    group = str(_last("WODGROUP", [defaults, *outer]))
    site = read_layer(state / "conf" / f"{group}.yml")
    fetched = _fetched(state, [defaults, site, *outer])
    private = str(_last("WODPRIVDIR", [defaults, site, *outer, fetched]))
    overlay = read_overlay(Path(private), group) if private else []
    layers = [defaults, site, *overlay, *outer, fetched]
    settings, origins = model.merge(layers, host_name=socket.getfqdn(), processors=os.cpu_count() or 1)
    for name in ("WODNOBO", "WODPRIVDIR", "WODSCRIPTDIR"):
        folder = getattr(settings, name)
        if folder and name not in fetched and not Path(folder).is_dir():
            raise ConfigProblem(f"{origins[name]}: {name} is {folder!r}; there is no such folder.")
    return settings, origins


def read_layer(path: Path) -> Layer:
    """The entries of a YAML file, or none where there is no such file; values sealed by `!vault` stay sealed."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigProblem(f"{path} cannot be read: {error}.") from None
    if vault.is_sealed(text):
        raise ConfigProblem(
            f"{path} is sealed as a whole, so that it cannot be read here.",
            hint="Seal the values that are secret, one by one: `ansible-vault encrypt_string`.",
        )
    try:
        node = yaml.compose(text, Loader=vault.Loader)
        return _entries(node, text, path)
    except yaml.reader.ReaderError as error:
        raise ConfigProblem(f"{path}: {error.reason} at character {error.position}.") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigProblem(
            f"{path}:{line}: {error.problem or 'this is not YAML'}.",
            hint="Correct the line; names and values are `NAME: value`.",
        ) from None


def read_overlay(private: Path, group: str) -> list[Layer]:
    """The layers of a private repository: names that are no settings of ours are variables for notebooks there."""
    folder = private / "ansible"
    files = [folder / "group_vars" / "all.yml", folder / "generated" / group, folder / "group_vars" / group]
    return [_with_variables(read_layer(path)) for path in files]


def remember(state: Path, options: Mapping[str, Any]) -> None:
    """Keep options of `wodctl up` for the commands that follow; later ones replace former ones name by name."""
    path = state / OPTIONS_FILE
    former = {name: entry.value for name, entry in read_layer(path).items()}
    text = "# Options that were given to `wodctl up`; `config show --origin` names this file for them.\n"
    text += yaml.safe_dump(former | dict(options), sort_keys=True, allow_unicode=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def _fetched(state: Path, layers: list[Layer]) -> Layer:
    """The folders that repositories are fetched to stand in for those that are configured."""
    names = {"public": ("WODNOBO", "WODNOBOREPO"), "private": ("WODPRIVDIR", "WODPRIVREPO")}
    return {
        folder: Entry(str(repositories.current(state, kind)), repository)
        for kind, (folder, repository) in names.items()
        if _last(repository, layers)
    }


def _last(name: str, layers: list[Layer]) -> Any:
    return next(layer[name].value for layer in reversed(layers) if name in layer)


def _entries(node: yaml.Node | None, text: str, path: Path) -> Layer:
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise ConfigProblem(f"{path}:1: expected lines of `NAME: value`.")
    loader = vault.Loader(text)
    entries: dict[str, Entry] = {}
    for key_node, value_node in node.value:
        origin = f"{path}:{key_node.start_mark.line + 1}"
        name = loader.construct_object(key_node, deep=True)
        if not isinstance(name, str):
            raise ConfigProblem(f"{origin}: {name!r} is no name of a setting.")
        if name in entries:
            raise ConfigProblem(
                f"{origin}: {name} is set a second time.", hint=f"The first is {entries[name].origin}."
            )
        entries[name] = Entry(loader.construct_object(value_node, deep=True), origin)
    return entries


def _with_variables(layer: Layer) -> Layer:
    """Take names that are not ours for variables of the site, except those that look like a mistyped setting.

    The original's generated files hold names that we have no use for (WODDISTRIB, WODAPIDBURL): variables too.
    """
    kept: dict[str, Entry] = {}
    variables: dict[str, Any] = {}
    origin = ""
    for name, entry in layer.items():
        if name in SECRETS:
            continue
        if model.is_setting(name) or model.is_variable_family(name) or name == "variables":
            kept[name] = entry
        elif model.looks_mistyped(name):
            raise model.unknown(name, entry.origin)
        else:
            variables[name], origin = entry.value, origin or entry.origin
    return kept | ({"variables": Entry(variables, origin)} if variables else {})
