"""What may pass the gate: decisions only, no input or output.

A call is never forwarded as it came. It is taken apart and compared with the policy, and what is forwarded
is put together anew from the parts that were checked: the engine can read nothing that was not read here.
"""

import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wodctl.model.appliance import (
    NAME_LABEL,
    DefinitionProblem,
    SeatPlan,
    documents,
    privileges,
    read_definition,
)

DEFINITIONS = Path("/etc/wod/appliances")
"""Folder with the definitions of appliances; what is defined while we run is there as well."""

_PLAIN_PATH = re.compile(r"(/v(?P<version>1\.[0-9]{2}))?(?P<path>(/[A-Za-z0-9_][A-Za-z0-9_.:@-]*)+)")
_PLAIN_PARAMETER = re.compile(r"([a-z][a-z_-]*)=([A-Za-z0-9_.:,/-]{1,128})")
_SPECIFICATION = re.compile(r"(?P<method>[A-Z]+) (?P<path>/[^?]*)(\?(?P<query>.+))?")
_LAB = r"[a-z0-9-]+=[a-z0-9][A-Za-z0-9_.:/@-]*"
_PLACEHOLDER = re.compile(r"\{([a-z-]+)\}")


class Refused(Exception):
    """The policy does not allow it. The text says why, and never contains a value that the client sent."""


class PolicyProblem(Exception):
    """The policy or the values of the site make no sense."""


@dataclass(frozen=True)
class Site:
    """The site's values that the policy speaks about: memory in bytes, cpu_quota in µs per 100 ms."""

    project: str
    state: str
    images: tuple[str, ...]
    compiler: str
    export: str
    memory: int
    cpu_quota: int
    pids: int
    uid_base: int
    gid_base: int
    first_seat: int
    last_seat: int
    seat_subnet: ipaddress.IPv4Network
    appliance_privileges: frozenset[str]

    @classmethod
    def gather(cls, environ: Mapping[str, str], settings: Mapping[str, Any]) -> "Site":
        """The values from the environment and the settings. Raises PolicyProblem if one is missing or odd."""
        try:
            site = cls(
                project=environ["WOD_PROJECT"],
                state=environ["WOD_STATE"],
                images=tuple(word.partition("=")[2] for word in environ["WOD_LABS"].split()),
                compiler=environ["WOD_COMPILER_IMAGE"],
                export=environ["WOD_EXPORT_IMAGE"],
                memory=_in_bytes(settings["WODSEATMEMORY"]),
                cpu_quota=int(settings["WODSEATCPUS"] * 100_000),
                pids=settings["WODSEATPIDS"],
                uid_base=settings["UIDBASE"],
                gid_base=settings["GIDBASE"],
                first_seat=settings["WODUSERMIN"],
                last_seat=settings["WODUSERMAX"],
                seat_subnet=ipaddress.IPv4Network(environ["WOD_SEAT_SUBNET"]),
                appliance_privileges=frozenset(settings["WODAPPLIANCEPRIVILEGES"]),
            )
        except KeyError as missing:
            raise PolicyProblem(f"{missing.args[0]} is not set.") from None
        for name, value, form in (
            ("WOD_PROJECT", site.project, r"[a-z0-9][a-z0-9_-]*"),
            ("WOD_STATE", site.state, r"(/[^/:\s]+)+"),
            ("WOD_LABS", environ["WOD_LABS"], rf"{_LAB}( {_LAB})*"),
            ("WOD_COMPILER_IMAGE", site.compiler, r"[a-z0-9][A-Za-z0-9_.:/@-]*"),
            ("WOD_EXPORT_IMAGE", site.export, r"[a-z0-9][A-Za-z0-9_.:/@-]*"),
        ):
            if not re.fullmatch(form, value):
                raise PolicyProblem(f"{name} is {value!r}, expected something like {form}.")
        return site

    @property
    def network(self) -> str:
        """Name of the network of the seats."""
        return f"{self.project}_seats"

    @property
    def plan(self) -> SeatPlan:
        """What the appliances of all seats have in common."""
        return SeatPlan(
            self.project, self.seat_subnet, self.first_seat, self.last_seat, self.uid_base, self.gid_base
        )

    def need_own(self, seat: int) -> None:
        """Raise Refused unless the site has this seat."""
        if not self.first_seat <= seat <= self.last_seat:
            raise Refused(f"n in the container's name must be from {self.first_seat} to {self.last_seat}")

    def values(self, seat: int) -> dict[str, str]:
        """What the {names} of the policy stand for in a document about this seat."""
        return {
            "project": self.project,
            "state": self.state,
            "images": " ".join(self.images),
            "compiler": self.compiler,
            "export": self.export,
            "network": self.network,
            "n": str(seat),
            "uid": str(self.uid_base + seat),
            "gid": str(self.gid_base + seat),
            "memory": str(self.memory),
            "cpu-quota": str(self.cpu_quota),
            "pids": str(self.pids),
            "address": self.plan.seat_address(seat),
            "appliance": self.plan.appliance_address(seat),
        }


@dataclass(frozen=True)
class Call:
    """A call that is allowed, provided that `container`, if there is one, is of that `kind`."""

    method: str
    before: str
    container: str | None
    kind: str | None
    after: str
    body: bytes

    def target(self, container: str | None = None) -> str:
        """The request's target, about `container` (an id) where the call is about one."""
        return f"{self.before}{container or ''}{self.after}"


@dataclass(frozen=True)
class _Allowed:
    """A call that is on a client's list."""

    method: str
    path: re.Pattern[str]
    query: Mapping[str, str | None]
    kinds: tuple[str, ...]
    any_body: bool


@dataclass(frozen=True)
class _AtMost:
    bound: str


@dataclass(frozen=True)
class _OneOf:
    words: str


@dataclass(frozen=True)
class _Matches:
    pattern: str


@dataclass(frozen=True)
class _EachMatches:
    pattern: str


@dataclass(frozen=True)
class _AsDefined:
    """Exactly what the definition of an appliance makes of it for this seat."""


@dataclass(frozen=True)
class _EachOf:
    rules: list[Any]


def _constructor(rule: Callable[[str], Any]) -> Callable[[yaml.SafeLoader, Any], Any]:
    return lambda loader, node: rule(loader.construct_scalar(node))


class _Loader(yaml.SafeLoader):
    """YAML with the tags of the policy."""


for _tag, _rule in (
    ("!at-most", _AtMost),
    ("!one-of", _OneOf),
    ("!matches", _Matches),
    ("!each-matches", _EachMatches),
):
    _Loader.add_constructor(_tag, _constructor(_rule))
_Loader.add_constructor("!as-defined", lambda loader, node: _AsDefined())
_Loader.add_constructor("!each-of", lambda loader, node: _EachOf(loader.construct_sequence(node, deep=True)))


class Policy:
    """The policy of one site: who may connect, and which calls pass.

    `elsewhere`: at the engine of another host, with the clients of that section. Raises PolicyProblem when it is made
    of a text that is not a policy.
    """

    def __init__(
        self, text: str, site: Site, definitions: Path = DEFINITIONS, *, elsewhere: bool = False
    ) -> None:
        self._site = site
        self._elsewhere = elsewhere
        self._definitions = definitions
        try:
            content = yaml.load(text, Loader=_Loader)  # noqa: S506 (a subclass of SafeLoader)
            self.body_limit: int = content["body-limit"]
            self._oldest_api = _version(str(content["oldest-api"]))
            self._documents: dict[str, Any] = content["documents"]
            self._names = {
                kind: _name_form(name, site.project) for kind, name in content["containers"].items()
            }
            clients = content["clients-elsewhere" if elsewhere else "clients"]
            self.uids: dict[str, int] = {name: client["uid"] for name, client in clients.items()}
            self._allowed = {
                name: [
                    self._allowed_call(call, document)
                    for call, document in (client["calls"] | client.get("more-calls", {})).items()
                ]
                for name, client in clients.items()
            }
            for document in self._documents.values():
                _check_names(document, self._site.values(site.first_seat))
        except (yaml.YAMLError, KeyError, TypeError, AttributeError, re.error) as problem:
            raise PolicyProblem(f"The policy cannot be read: {problem!r}.") from problem

    def check(
        self, client: str, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> Call:
        """The call to forward for a client's request; header names are in lower case. Raises Refused."""
        _check_headers(headers)
        path, _, query = target.partition("?")
        plain = _PLAIN_PATH.fullmatch(path)
        if not plain:
            raise Refused("the path is not written plainly")
        if plain["version"] and _version(plain["version"]) < self._oldest_api:
            raise Refused("this version of the API is too old")
        for allowed in self._allowed[client]:
            match = allowed.path.fullmatch(plain["path"])
            if match and allowed.method == method:
                break
        else:
            raise Refused("this call is not on the client's list")
        parameters = _check_query(query, allowed.query)
        if allowed.kinds:
            body = self._check_document(allowed.kinds, parameters, body)
        elif body and not allowed.any_body:
            raise Refused("this call has no body")
        version = f"/v{plain['version']}" if plain["version"] else ""
        rest = "?" + "&".join(f"{key}={value}" for key, value in parameters.items()) if parameters else ""
        kind = match.lastgroup
        if kind is None:
            return Call(method, version + plain["path"], None, None, rest, body)
        start, end = match.span(kind)
        return Call(
            method, version + plain["path"][:start], match[kind], kind, plain["path"][end:] + rest, body
        )

    def check_container(self, inspected: Mapping[str, Any], kind: str) -> None:
        """Raise Refused unless the engine's description of a container is that of one of ours, of this kind."""
        seat = self._seat(kind, str(inspected.get("Name", "")).removeprefix("/"))
        labels = (inspected.get("Config") or {}).get("Labels") or {}
        if (labels.get("wod.project"), labels.get(f"wod.{kind}")) != (self._site.project, str(seat)):
            raise Refused(f"the container is no {kind} of this project")

    def _seat(self, kind: str, container_name: str) -> int:
        """The number of the seat that a container of this name is for. Raises Refused if it is of another kind.

        The seat may be one that the site no longer has: its containers must still be seen and removed.
        """
        match = self._names[kind].fullmatch(container_name)
        if not match:
            raise Refused(f"the container's name must be like {self._names[kind].pattern}")
        return int(match[1])

    def _allowed_call(self, specification: str, document: str | list[str] | None) -> _Allowed:
        match = _SPECIFICATION.fullmatch(specification)
        any_body = document == "anything"
        kinds = document if isinstance(document, list) else [document] if document and not any_body else []
        if not match or set(kinds) - (self._documents.keys() & self._names.keys()):
            raise PolicyProblem(f"The policy's call {specification!r} is not `METHOD /path?query: document`.")
        places = {
            kind: f"(?P<{kind}>{name.pattern.replace('(', '(?:')}|[0-9a-f]{{64}})"
            for kind, name in self._names.items()
        }
        places["image"] = "|".join(map(re.escape, self._site.images))
        literals_and_names = _PLACEHOLDER.split(match["path"])
        path = "".join(
            f"(?:{places[part]})" if i % 2 else re.escape(part) for i, part in enumerate(literals_and_names)
        )
        parameters = [part.partition("=") for part in (match["query"] or "").split("&") if part]
        return _Allowed(
            match["method"],
            re.compile(path),
            {name: value if equals else None for name, equals, value in parameters},
            tuple(kinds),
            any_body,
        )

    def _check_document(self, kinds: tuple[str, ...], parameters: Mapping[str, str], body: bytes) -> bytes:
        container = parameters.get("name", "")
        name = next((kind for kind in kinds if self._names[kind].fullmatch(container)), kinds[0])
        seat = self._seat(name, container)
        self._site.need_own(seat)
        if isinstance(self._documents[name], _AsDefined):
            checked = self._as_defined(_document(body), seat, container)
        else:
            checked = _conform(self._documents[name], _document(body), "", self._site.values(seat))
        return json.dumps(checked).encode("ascii")

    def _as_defined(self, value: Any, seat: int, container: str) -> dict[str, Any]:
        """The document of an appliance's container, if it is the one that its definition makes."""
        labels = value.get("Labels") if isinstance(value, dict) else None
        name = labels.get(NAME_LABEL) if isinstance(labels, dict) else None
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,39}", name):
            raise Refused(f"the label {NAME_LABEL} must be the name of an appliance")
        try:
            definition = read_definition(self._definitions, name)
        except (DefinitionProblem, OSError):
            definition = None
        try:
            made = (
                documents(definition, seat, self._site.plan, elsewhere=self._elsewhere) if definition else []
            )
        except KeyError:
            raise Refused("the appliance has no ports on another host") from None
        expected = dict(made).get(container)
        if definition is None or expected is None:
            raise Refused("the appliance is not defined, or has no such container")
        # What a site withdraws is withdrawn at once, also from what was defined before.
        beyond = privileges(expected) - (definition.privileges.keys() & self._site.appliance_privileges)
        if beyond:
            raise Refused(f"the site does not allow appliances {', '.join(sorted(beyond))}")
        for field in sorted(expected.keys() | value.keys()):
            if _written(expected.get(field)) != _written(value.get(field)):
                raise Refused(f"{field[:64]} is not as the appliance is defined")
        return expected


def _check_headers(headers: Iterable[tuple[str, str]]) -> None:
    names = [name for name, _ in headers]
    if "upgrade" in names or any(n == "connection" and "upgrade" in v.lower() for n, v in headers):
        raise Refused("a connection cannot be upgraded")
    if "content-encoding" in names:
        raise Refused("a body cannot be encoded")
    if "content-length" in names and "transfer-encoding" in names:
        raise Refused("a body cannot have two lengths")


def _check_query(query: str, allowed: Mapping[str, str | None]) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for part in query.split("&") if query else ():
        match = _PLAIN_PARAMETER.fullmatch(part)
        if not match:
            raise Refused("the query is not written plainly")
        name, value = match.groups()
        if name in parameters:
            raise Refused(f"the parameter {name} is given twice")
        if name not in allowed or allowed[name] not in (None, value):
            raise Refused(f"the parameter {name} is not allowed here")
        parameters[name] = value
    return parameters


def _document(body: bytes) -> Any:
    """The JSON document of a body. Raises Refused for all that two readers could understand differently."""
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refused("the body is not a JSON document") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Refused("the document has a field twice")
    return fields


def _no_constant(_: str) -> None:
    raise Refused("the document has a number that is none")


def _conform(rule: Any, value: Any, where: str, values: Mapping[str, str]) -> Any:
    """`value` as far as the rule speaks about it. Raises Refused where they disagree."""
    match rule:
        case dict():
            return _conform_object(rule, value, where, values)
        case list():
            if not isinstance(value, list) or len(value) != len(rule):
                raise Refused(f"{where} must be a list of {len(rule)}")
            pairs = enumerate(zip(rule, value, strict=True))
            return [_conform(item_rule, item, f"{where}[{i}]", values) for i, (item_rule, item) in pairs]
        case _AtMost():
            bound = int(_filled(rule.bound, values))
            if type(value) is not int or not 1 <= value <= bound:
                raise Refused(f"{where} must be from 1 to {bound}")
        case _OneOf():
            words = _filled(rule.words, values).split()
            if value not in words:
                raise Refused(f"{where} must be one of {', '.join(words)}")
        case _Matches():
            _check_texts(rule.pattern, [value], where, values)
        case _EachMatches():
            if not isinstance(value, list):
                raise Refused(f"{where} must be a list")
            _check_texts(rule.pattern, value, where, values)
        case _EachOf():
            if not isinstance(value, list):
                raise Refused(f"{where} must be a list")
            return [
                _conform_to_one(rule.rules, item, f"{where}[{i}]", values) for i, item in enumerate(value)
            ]
        case _:
            expected = _filled(rule, values) if isinstance(rule, str) else rule
            # Python holds True for 1 and 1 for 1.0, the engine does not.
            if type(value) is not type(expected) or value != expected:
                raise Refused(f"{where} must be {json.dumps(expected)}")
    return value


def _conform_to_one(rules: list[Any], value: Any, where: str, values: Mapping[str, str]) -> Any:
    """`value` as far as the first rule speaks about it that it meets. Raises Refused where it meets none."""
    refusals = []
    for rule in rules:
        try:
            return _conform(rule, value, where, values)
        except Refused as refusal:
            refusals.append(str(refusal))
    raise Refused(f"{where} must meet one of {len(rules)} rules: {'; '.join(refusals)}")


def _conform_object(
    rule: dict[str, Any], value: Any, where: str, values: Mapping[str, str]
) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused(f"{where or 'the document'} must be an object")
    prefix = f"{where}." if where else ""
    rule = {_filled(name, values): part for name, part in rule.items()}
    known = {name.removesuffix("?") for name in rule}
    # The engine takes a field's name in any case, so only names that are exactly ours are known.
    for name in value:
        if name not in known and value[name] is not None:
            raise Refused(f"{prefix}{name[:64]} is not allowed")
    checked: dict[str, Any] = {}
    for field, field_rule in rule.items():
        name = field.removesuffix("?")
        if field != name and value.get(name) is None:
            continue
        if name not in value:
            raise Refused(f"{prefix}{name} is missing")
        checked[name] = _conform(field_rule, value[name], f"{prefix}{name}", values)
    return checked


def _name_form(name: str, project: str) -> re.Pattern[str]:
    """The names of a kind of containers: {n} stands for the number of a seat, the only group; {i} for a digit."""
    before, number, after = name.replace("{project}", project).partition("{n}")
    if not number:
        raise KeyError(name)
    after = "[1-9]".join(map(re.escape, after.split("{i}")))
    return re.compile(f"{re.escape(before)}([1-9][0-9]{{0,5}}){after}")


def _check_texts(pattern: str, texts: list[Any], where: str, values: Mapping[str, str]) -> None:
    form = _form(pattern, values)
    for text in texts:
        if not isinstance(text, str) or not form.fullmatch(text):
            raise Refused(f"{where} must be like {pattern}")


def _form(pattern: str, values: Mapping[str, str]) -> re.Pattern[str]:
    return re.compile(_filled(pattern, {name: re.escape(text) for name, text in values.items()}), re.DOTALL)


def _check_names(rule: Any, values: Mapping[str, str]) -> None:
    """Raise KeyError if a rule has a {name} that stands for nothing."""
    match rule:
        case dict():
            for part in rule.values():
                _check_names(part, values)
        case list():
            for part in rule:
                _check_names(part, values)
        case _EachOf():
            _check_names(rule.rules, values)
        case _AtMost():
            _filled(rule.bound, values)
        case _OneOf():
            _filled(rule.words, values)
        case _Matches() | _EachMatches():
            _form(rule.pattern, values)
        case str():
            _filled(rule, values)


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)


def _written(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def _in_bytes(amount: str | int) -> int:
    """Bytes of an amount like `2G`, `1.5G`, `512M` or a plain number."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([KMGT]?)", str(amount))
    if not match:
        raise PolicyProblem(f"WODSEATMEMORY is {amount!r}, expected something like 2G.")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2] or " "))
