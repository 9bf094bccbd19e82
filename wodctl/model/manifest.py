"""What an appliance's folder says, checked: appliance.yml, and compose.yml as Compose resolves it.

docs/appliances.md is the reference. Every refusal names the file, the line where there is one, and what to do.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from wodctl.errors import ContentProblem
from wodctl.model.appliance import HANDED_OVER, MOST_COMPANIONS, Definition, Port, outside_name, privileges

NEVER = {
    "SYS_ADMIN": "is as good as root on the host",
    "SYS_MODULE": "is as good as root on the host",
    "SYS_RAWIO": "is as good as root on the host",
    "SYS_PTRACE": "reaches into processes of other users",
    "SYS_BOOT": "stops the host",
    "DAC_READ_SEARCH": "reads files of the host",
    "BPF": "reads the kernel's memory",
    "PERFMON": "reads the kernel's memory",
    "NET_ADMIN": "can take another seat's address",
    "NET_RAW": "can speak in the name of another seat",
    "MAC_ADMIN": "switches the host's protection off",
    "ALL": "is all of them",
}
"""Capabilities that no setting allows, and why."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,39}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_PORT_NAME = re.compile(r"[a-z][a-z0-9-]{0,29}")
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")
_OURS = re.compile(r"WOD_.*")
_LONGEST_STOP = 10
_MANIFEST_KEYS = ("title", "ports", "values", "login", "privileges", "work", "ready_seconds")
_SERVICE_KEYS = {
    "extends", "command", "entrypoint", "environment", "user", "working_dir", "cap_add", "security_opt", "devices",
    "tmpfs", "volumes", "mem_limit", "cpus", "pids_limit", "shm_size", "read_only", "stop_grace_period",
    "stop_signal", "healthcheck", "ulimits",
}  # fmt: skip
_SECURITY = ("seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined")


def plain_name(name: str) -> str:
    """`Spark101` for `Spark101` and `WKSHP-Spark101`. Raises ContentProblem for what cannot be a name."""
    plain = re.sub(r"^(WKSHP|CHLG)-", "", name)
    if not _NAME.fullmatch(plain):
        raise ContentProblem(
            f"{name[:80]!a} is no name of an appliance: expected letters, digits and dashes, such as Spark101."
        )
    return plain


@dataclass(frozen=True)
class Manifest:
    """What appliance.yml says."""

    title: str
    ports: Mapping[str, Port]
    values: Mapping[str, Mapping[str, str]]
    login: Mapping[str, str]
    privileges: Mapping[str, str]
    work: str = ""
    ready_seconds: int = 60

    @property
    def sample_values(self) -> dict[str, str]:
        """Variables of the notebook with values of the right form, to look at a workshop without an appliance."""
        ports = {port.publish: "20000" for port in self.ports.values() if port.publish}
        forms = {"secret": "0" * 48, "url": "http://127.0.0.1/user/student1/appliance/page/",
                 "address": "appliance:80"}  # fmt: skip
        return ports | {name: forms[kind] for name, value in self.values.items() for kind in value}


class _Node:
    """A part of a YAML document that knows its line."""

    def __init__(self, where: str, node: yaml.Node) -> None:
        self._where = where
        self._node = node

    def refuse(self, what: str, hint: str = "") -> ContentProblem:
        """The problem with this part."""
        return ContentProblem(f"{self._where}, line {self._node.start_mark.line + 1}: {what}", hint=hint)

    @property
    def value(self) -> Any:
        """As YAML understands it."""
        return yaml.SafeLoader("").construct_object(self._node, deep=True)

    def entries(self, what: str) -> dict[str, "_Node"]:
        """Keys and values of a mapping, each key once."""
        if not isinstance(self._node, yaml.MappingNode):
            raise self.refuse(f"{what} must be lines of `name: value`.")
        found: dict[str, _Node] = {}
        for key, value in self._node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in found:
                raise _Node(self._where, key).refuse(f"{what} has a name twice, or one that is no text.")
            found[key.value] = _Node(self._where, value)
        return found

    def text(self, what: str) -> str:
        """A text of one line."""
        value = self.value
        if not isinstance(value, str) or not value.strip() or "\n" in value.strip():
            raise self.refuse(f"{what} must be a text of one line.")
        return value.strip()

    def number(self, what: str, least: int, most: int) -> int:
        """A whole number."""
        value = self.value
        if type(value) is not int or not least <= value <= most:
            raise self.refuse(f"{what} must be a number from {least} to {most}.")
        return value


def _parsed(text: str, where: str) -> _Node:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ContentProblem(f"{where}{line}: not YAML: {error.problem}.") from None
    except (yaml.YAMLError, RecursionError):
        raise ContentProblem(f"{where}: not YAML.") from None
    if node is None:
        raise ContentProblem(f"{where} is empty.", hint="docs/appliances.md shows what it must say.")
    return _Node(where, node)


def read_manifest(text: str, where: str) -> Manifest:
    """What appliance.yml says. `where` names it in messages. Raises ContentProblem with file and line."""
    root = _parsed(text, where)
    entries = root.entries("appliance.yml")
    for key, node in entries.items():
        if key not in _MANIFEST_KEYS:
            raise node.refuse(
                f"there is no key {key[:60]!r}.", hint=f"There are: {', '.join(_MANIFEST_KEYS)}."
            )
    if "title" not in entries:
        raise root.refuse("title is missing.", hint="One line that says what the appliance is.")
    ports = _ports(entries["ports"]) if "ports" in entries else {}
    values = _values(entries["values"], ports) if "values" in entries else {}
    if "login" not in entries:
        raise root.refuse(
            "login is missing.",
            hint="Say how the trial signs in: `login: {ssh: PORT}` or `login: {http: PORT, path: PATH}`.",
        )
    privileges = entries["privileges"].entries("privileges") if "privileges" in entries else {}
    return Manifest(
        title=entries["title"].text("title"),
        ports=ports,
        values=values,
        login=_login(entries["login"], ports, values),
        privileges={name: node.text(f"the reason of {name}") for name, node in privileges.items()},
        work=_work(entries["work"]) if "work" in entries else "",
        ready_seconds=entries["ready_seconds"].number("ready_seconds", 1, 600)
        if "ready_seconds" in entries
        else 60,
    )


def _ports(node: _Node) -> dict[str, Port]:
    found: dict[str, Port] = {}
    variables: list[str] = []
    for name, port in node.entries("ports").items():
        if not _PORT_NAME.fullmatch(name):
            raise port.refuse(f"{name[:40]!r} is no name of a port: expected small letters, digits, dashes.")
        parts = port.entries(f"the port {name}")
        for key, part in parts.items():
            if key not in ("port", "web", "publish"):
                raise part.refuse(
                    f"a port has no {key[:40]!r}.", hint="There are: port, web (keep or strip), publish."
                )
        if "port" not in parts:
            raise port.refuse(f"the port {name} has no number: `port: 8888`.")
        publish = parts["publish"].text("publish") if "publish" in parts else ""
        if publish and (not _VARIABLE.fullmatch(publish) or _OURS.fullmatch(publish)):
            raise parts["publish"].refuse("publish must be the name of a variable, such as HTTPPORT.")
        if publish in variables:
            raise parts["publish"].refuse(f"{publish} is the variable of another port already.")
        web = parts["web"].text("web") if "web" in parts else ""
        if web not in ("", "keep", "strip"):
            raise parts["web"].refuse("web must be keep or strip: whether your server sees the whole path.")
        number = None
        if parts["port"].value != "published":
            number = parts["port"].number("port", 1, 65535)
        elif not publish:
            raise parts["port"].refuse("`port: published` needs `publish: VARIABLE`.")
        found[name] = Port(number, web, publish)
        variables += [publish] if publish else []
    for name, made in found.items():
        if not made.publish and outside_name(name, made) in variables:
            raise node.refuse(
                f"{outside_name(name, made)} belongs to the port {name}, which is opened on other hosts; "
                "another port publishes it."
            )
    return found


def _values(node: _Node, ports: Mapping[str, Port]) -> dict[str, dict[str, str]]:
    published = [port.publish for port in ports.values()]
    found = {}
    for name, value in node.entries("values").items():
        if not _VARIABLE.fullmatch(name) or name in published:
            raise value.refuse(f"{name[:60]!r} is no name of a variable, or that of a published port.")
        parts = value.entries(f"the value {name}")
        if list(parts) == ["secret"] and parts["secret"].value == "token":
            found[name] = {"secret": "token"}
        elif list(parts) == ["url"] and ports.get(str(parts["url"].value), Port(None)).web:
            found[name] = {"url": str(parts["url"].value)}
        elif list(parts) == ["address"] and parts["address"].value in ports:
            found[name] = {"address": str(parts["address"].value)}
        else:
            raise value.refuse(
                f"the value {name} must be {{secret: token}}, {{address: PORT}}, or {{url: PORT}} with a port that "
                "has `web`."
            )
    return found


def _login(node: _Node, ports: Mapping[str, Port], values: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    parts = {key: part.text("login") for key, part in node.entries("login").items()}
    kinds = [kind for kind in ("ssh", "http") if kind in parts]
    if len(kinds) != 1 or set(parts) - {"ssh", "http", "path"} or parts[kinds[0]] not in ports:
        raise node.refuse("login must be {ssh: PORT}, or {http: PORT, path: PATH}, with a port of `ports`.")
    for name in re.findall(r"\{(.*?)\}", parts.get("path", "")):
        if name not in values:
            raise node.refuse(f"path names {{{name[:40]}}}, which is none of `values`.")
    return parts


def _work(node: _Node) -> str:
    path = node.text("work").replace("${WOD_USER}", "@WOD_USER@")
    if not re.fullmatch(r"(/(?!\.\.?(/|$))[A-Za-z0-9_.@-]+)+", path):
        raise node.refuse("work must be a full path such as /home/${WOD_USER}/work.")
    return path


def check_compose(text: str, where: str) -> list[str]:
    """The services that compose.yml names, after a look at what it says before Compose reads it.

    Raises ContentProblem with file and line for every key that has no meaning for an appliance.
    """
    root = _parsed(text, where).entries("compose.yml")
    for key, node in root.items():
        if key != "services" and not key.startswith("x-"):
            raise node.refuse(f"{key[:40]!r} is not for an appliance: expected `services` alone.")
    if "services" not in root:
        raise ContentProblem(f"{where} has no `services`.", hint="docs/appliances.md shows what it must say.")
    services = root["services"].entries("services")
    if "appliance" not in services or len(services) > 1 + MOST_COMPANIONS:
        raise root["services"].refuse(
            f"expected the service `appliance`, and at most {MOST_COMPANIONS} others."
        )
    for name, service in services.items():
        if not _PORT_NAME.fullmatch(name):
            raise service.refuse(
                f"{name[:40]!r} is no name of a service: expected small letters, digits, dashes."
            )
        keys = service.entries(f"the service {name}")
        for key, node in keys.items():
            if key not in _SERVICE_KEYS:
                raise node.refuse(
                    f"{key[:40]!r} is not for an appliance.",
                    hint=f"Understood are: {', '.join(sorted(_SERVICE_KEYS))}.",
                )
        wanted = {"file": "${WOD_APPLIANCE_BASE}", "service": "appliance"}
        if "extends" not in keys or keys["extends"].value != wanted:
            raise service.refuse(
                f"the service {name} must extend what every appliance starts from.",
                hint='extends: {file: "${WOD_APPLIANCE_BASE}", service: appliance}',
            )
    return ["appliance", *sorted(set(services) - {"appliance"})]


def define(
    name: str,
    manifest: Manifest,
    services: Sequence[tuple[Mapping[str, Any], str]],
    read_profile: Callable[[str], str],
    allowed: Collection[str],
    where: str,
) -> Definition:
    """The definition of an appliance.

    `services` are what Compose resolved, the appliance's own first, each with its image. `read_profile` gives the text
    of a file in the folder. `allowed` are the privileges that the site allows. Raises ContentProblem.
    """
    containers: list[dict[str, Any]] = []
    asked: set[str] = set()
    stop = 0
    for service, image in services:
        document, seconds = _document(service, image, read_profile, where)
        containers.append(document)
        asked |= privileges(document)
        stop = max(stop, seconds)
    _check_privileges(asked, manifest.privileges, allowed, where)
    return Definition(
        name=name,
        title=manifest.title,
        containers=containers,
        ports=manifest.ports,
        values=manifest.values,
        login=manifest.login,
        privileges=manifest.privileges,
        work=manifest.work,
        ready_seconds=manifest.ready_seconds,
        stop_seconds=stop,
    )


def _check_privileges(
    asked: set[str], reasons: Mapping[str, str], allowed: Collection[str], where: str
) -> None:
    manifest, compose = f"{where}/appliance.yml", f"{where}/compose.yml"
    for privilege in sorted(asked):
        if privilege in NEVER:
            raise ContentProblem(f"{compose}: {privilege} is never given: it {NEVER[privilege]}.")
        if privilege not in reasons:
            raise ContentProblem(
                f"{compose} asks for {privilege}, and {manifest} gives no reason.",
                hint=f"Add `{privilege}: why it is needed` under `privileges`, or do without.",
            )
        if privilege not in allowed:
            raise ContentProblem(
                f"{compose} asks for {privilege} ({reasons[privilege]}), which this site does not allow.",
                hint="Who answers for the site may add it to WODAPPLIANCEPRIVILEGES.",
            )
    for privilege in reasons:
        if privilege not in asked:
            raise ContentProblem(
                f"{manifest} gives a reason for {privilege}, which {compose} does not ask for.",
                hint="Remove it: what is listed there is what the appliance has.",
            )


def _document(
    service: Mapping[str, Any], image: str, read_profile: Callable[[str], str], where: str
) -> tuple[dict[str, Any], int]:
    """The engine's document of one service, and seconds until it has to have stopped."""
    service = _unescaped(service)
    security, paths = _security(service.get("security_opt") or [], read_profile, where)
    devices = []
    for device in service.get("devices") or []:
        if device["source"] != device["target"] or not re.fullmatch(r"/dev/[a-z0-9/_-]+", device["source"]):
            raise ContentProblem(f"{where}/compose.yml: a device must have its own name, such as /dev/fuse.")
        devices.append(
            {"PathOnHost": device["source"], "PathInContainer": device["target"], "CgroupPermissions": "rw"}
        )
    memory = int(service["mem_limit"])
    stop = int(_nanoseconds(service.get("stop_grace_period"), 5 * 10**9) / 10**9)
    if stop > _LONGEST_STOP:
        raise ContentProblem(
            f"{where}/compose.yml: stop_grace_period is longer than {_LONGEST_STOP} s: nobody waits that long."
        )
    document: dict[str, Any] = {
        "Image": image,
        "Env": sorted(f"{key}={value}" for key, value in (service.get("environment") or {}).items()),
        "Healthcheck": _health(service.get("healthcheck") or {}),
        "HostConfig": {
            "Mounts": _mounts(service.get("volumes") or [], where),
            "Tmpfs": _tmpfs(service.get("tmpfs") or []),
            "CapDrop": ["ALL"],
            "CapAdd": sorted({str(n).upper().removeprefix("CAP_") for n in service.get("cap_add") or []}),
            "SecurityOpt": security,
            "Devices": devices,
            "CgroupnsMode": "private",
            "IpcMode": "private",
            "ReadonlyRootfs": bool(service.get("read_only", False)),
            "Memory": memory,
            "MemorySwap": memory,
            "NanoCpus": round(float(service["cpus"]) * 10**9),
            "CpuShares": int(service["cpu_shares"]),
            "PidsLimit": int(service["pids_limit"]),
            "RestartPolicy": {"Name": "unless-stopped"},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
        }
        | paths,
    }
    for key, field in (("command", "Cmd"), ("entrypoint", "Entrypoint"), ("user", "User"),
                       ("working_dir", "WorkingDir"), ("stop_signal", "StopSignal")):  # fmt: skip
        if service.get(key) is not None:
            document[field] = service[key]
    if service.get("shm_size") is not None:
        document["HostConfig"]["ShmSize"] = int(service["shm_size"])
    if service.get("ulimits"):
        document["HostConfig"]["Ulimits"] = _limits(service["ulimits"])
    return document, stop


def _security(
    options: Sequence[str], read_profile: Callable[[str], str], where: str
) -> tuple[list[str], dict[str, Any]]:
    """The engine's security options, and its fields beside them."""
    found = {"no-new-privileges": "no-new-privileges:true"}
    fields: dict[str, Any] = {}
    for option in options:
        if option in ("no-new-privileges:true", "no-new-privileges=true", "no-new-privileges"):
            continue
        if option in ("no-new-privileges:false", "no-new-privileges=false"):
            found["no-new-privileges"] = "no-new-privileges:false"
        elif option == "systempaths=unconfined":
            # The engine knows this as two empty lists: it is the client that knows the word.
            fields = {"MaskedPaths": [], "ReadonlyPaths": []}
        elif option in _SECURITY:
            found[option.partition("=")[0]] = option
        elif re.fullmatch(r"seccomp=[A-Za-z0-9._-]+\.json", option):
            try:
                profile = json.loads(read_profile(option.partition("=")[2]))
            except ValueError:
                raise ContentProblem(f"{where}/{option.partition('=')[2]} is not JSON.") from None
            found["seccomp"] = "seccomp=" + json.dumps(profile, separators=(",", ":"), sort_keys=True)
        else:
            raise ContentProblem(
                f"{where}/compose.yml: {option[:60]!r} is no security_opt of an appliance.",
                hint=f"There are: no-new-privileges:false, seccomp=FILE.json, {', '.join(_SECURITY)}.",
            )
    return sorted(found.values()), fields


def _mounts(volumes: Sequence[Mapping[str, Any]], where: str) -> list[dict[str, Any]]:
    """What is handed over, and volumes without a name: they begin and end with the container."""
    targets = [HANDED_OVER]
    for volume in volumes:
        target = str(volume.get("target"))
        if volume.get("type") != "volume" or volume.get("source") or not target.startswith("/"):
            raise ContentProblem(
                f"{where}/compose.yml: volumes have no name and no place on the host: expected `- /var/lib/docker`."
            )
        if target not in targets:
            targets.append(target)
    return [{"Type": "volume", "Target": target} for target in targets]


def _tmpfs(entries: Sequence[str]) -> dict[str, str]:
    parted = (entry.partition(":") for entry in entries)
    return {target: options for target, _, options in parted}


def _health(check: Mapping[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = {
        "Interval": _nanoseconds(check.get("interval"), 30 * 10**9),
        "Timeout": _nanoseconds(check.get("timeout"), 5 * 10**9),
        "StartPeriod": _nanoseconds(check.get("start_period"), 60 * 10**9),
        "StartInterval": _nanoseconds(check.get("start_interval"), 500 * 10**6),
        "Retries": int(check.get("retries", 3)),
    }
    if check.get("test"):
        document["Test"] = check["test"]
    return document


def _limits(limits: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for name, limit in sorted(limits.items()):
        soft, hard = (limit["soft"], limit["hard"]) if isinstance(limit, Mapping) else (limit, limit)
        found.append({"Name": name, "Soft": int(soft), "Hard": int(hard)})
    return found


def _nanoseconds(text: str | None, default: int) -> int:
    if text is None:
        return default
    match = _DURATION.fullmatch(text)
    if not match:
        raise ContentProblem(f"{text!r} is no duration: expected something like 1m30s.")
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in match.groups())
    return round(((hours * 60 + minutes) * 60 + seconds) * 10**9 + milliseconds * 10**6)


def _unescaped(value: Any) -> Any:
    """Compose doubles the dollar signs of what it resolved, so that it could be read again."""
    if isinstance(value, Mapping):
        return {key: _unescaped(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_unescaped(part) for part in value]
    return value.replace("$$", "$") if isinstance(value, str) else value
