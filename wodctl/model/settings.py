"""The settings of a site: typed, checked, merged from layers, each value with the place it came from.

`conf/defaults.yml` documents every name; this module holds the types and the rules. Names are the original's
(`WODUSERMIN`, `UIDBASE`, …), because notebooks and private repositories use them.
"""

import dataclasses
import difflib
import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wodctl.errors import ConfigProblem
from wodctl.model.appliance import FIRST_PLACE
from wodctl.model.docker_host import DockerHost

ALIASES = {
    "USERMIN": "WODUSERMIN",
    "USERMAX": "WODUSERMAX",
    "POSTPORT": "WODPOSTPORT",
    "BASESTDID": "WODBASESTDID",
}
"""Short names of the 2023 article, accepted for the names of today."""

TYPES = ("backend", "api-db", "all")
"""What a host may be."""

WAYS_TO_TLS = ("off", "files", "acme")
"""Where the certificate comes from."""

STUDENTS_DIRECTORY = "/student"
"""Where the students' homes are in every container; notebooks know it as WODSTUDDIR."""

LAB_NAME = r"[a-z0-9]+(?:-[a-z0-9]+)*"
"""How a lab image may be called (its folder below images/labs), as a regular expression."""

LAST_SERVICE_UID = 1899
"""Uids up to this one belong to the services; seats' uids and gids lie above."""

_DASHED = re.compile(r"[A-Z0-9]+-(WKSHP|CHLG)-[A-Za-z0-9._-]+")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_SENDER = re.compile(r"[A-Za-z0-9._%+=-]+@[A-Za-z0-9.-]+")
_HOST = r"[A-Za-z0-9][A-Za-z0-9.-]*"
_BRAND = re.compile(r"(?=.*\S)[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,80}")
# Into headers of pages too: nothing that ends a value there.
_ADDRESS = re.compile(rf"https?://{_HOST}(:\d{{1,5}})?(/[^\s\"'<>;,\\`{{}}|^]*)?")
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_LAB = re.compile(LAB_NAME)
_DISTINGUISHED = re.compile(
    r"[A-Za-z][A-Za-z0-9-]*=[A-Za-z0-9 ._@-]+(,[A-Za-z][A-Za-z0-9-]*=[A-Za-z0-9 ._@-]+)*"
)
_BACKEND = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:\d{1,5}(:https?(:\d{1,7}(:\d{1,5})?)?)?)?")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?")
_YES_NO = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}
_SIZE = re.compile(r"(\d+)([KMG]?)")
_REPOSITORY = re.compile(
    rf"https://{_HOST}(:\d+)?/[^\s@]+|ssh://([a-z0-9_-]+@)?{_HOST}(:\d+)?/\S+|[a-z0-9_-]+@{_HOST}:\S+|file:///\S+"
)
_REF = re.compile(r"[A-Za-z0-9_](?!.*\.\.)[A-Za-z0-9._/+-]{0,200}")


@dataclass(frozen=True)
class Entry:
    """A value as a layer gives it, and where: `file:line`, `environment` or an option."""

    value: Any
    origin: str


Layer = Mapping[str, Entry]


@dataclass(frozen=True)
class Settings:
    """Effective settings of a site. Derived names (external addresses, WODBASESTDID, …) are filled in."""

    WODGROUP: str
    WODTYPE: str
    WODBEFQDN: str
    WODBEPORT: int
    WODBEPROTO: str
    WODBEEXTFQDN: str
    WODBEEXTPORT: int
    WODBEEXTPROTO: str
    WODFEFQDN: str
    WODFEPORT: int
    WODFEPROTO: str
    WODFEEXTFQDN: str
    WODFEEXTPORT: int
    WODFEEXTPROTO: str
    WODAPIDBFQDN: str
    WODAPIDBPORT: int
    WODAPIDBPROTO: str
    WODAPIDBEXTFQDN: str
    WODAPIDBEXTPORT: int
    WODAPIDBEXTPROTO: str
    WODTLS: str
    WODTLSCERT: str
    WODTLSKEY: str
    WODHTTPPORT: int
    WODACMEDIRECTORY: str
    WODACMEMAIL: str
    WODSEATDOMAIN: str
    WODAPIDB: bool
    WODAPIDBUSER: str
    WODBACKENDS: list[str]
    WODAPIDBADMIN: str
    WODDENYLIST: list[str]
    WODAPIDBRATE: int
    WODAPIDBCORS: list[str]
    WODAPIDBPROXIES: list[str]
    WODAPIDBPATIENCE: float
    WODAPIDBHOUR: float
    WODFEEDBACKURL: str
    WODSMTPHOST: str
    WODSMTPPORT: int
    WODSMTPTLS: str
    WODSMTPUSER: str
    WODCURLOPT: str
    WODLDAPSRVNAME: str
    WODLDAPPORT: int
    WODLDAPDMN: str
    WODLDAPSETUPUSER: str
    WODLDAPBINDDN: str
    WODBENBR: int
    WODBASESTDID: int
    WODUSER: str
    WODSENDER: str
    WODPOSTPORT: int
    WODPOSTNETWORKS: list[str]
    WODTRUSTEDPROXIES: list[str]
    WODBANNEVER: list[str]
    OPNSENSEIP: str
    OPNSENSEPORT: int
    WODUSERMIN: int
    WODUSERMAX: int
    UIDBASE: int
    GIDBASE: int
    CLEAN: bool
    WODSEATMEMORY: str
    WODSEATCPUS: float
    WODSEATPIDS: int
    WODSEATSTARTS: int
    WODSEATNETWORK: str
    WODSEATDISK: str
    WODSEATFILES: int
    WODCOOKIEDAYS: float
    WODLEASEWARNING: int
    WODRUNAWAYS: str
    WODRUNAWAYMINUTES: float
    WODRUNAWAYCPUS: float
    WODDENIED: list[str]
    WODALLOWED: list[str]
    WODKERNELHOURS: float
    WODIDLEHOURS: float
    WODORPHANS: bool
    WODKEEPREJECTED: int
    WODKEEPACTIONS: int
    WODAPPLIANCES: list[str]
    WODAPPLIANCEHOSTS: list[str]
    WODAPPLIANCEPRIVILEGES: list[str]
    WODPORTPOOL: str
    WODNOBO: str
    WODNOBOREPO: str
    WODNOBOBRANCH: str
    WODPRIVDIR: str
    WODPRIVREPO: str
    WODPRIVBRANCH: str
    WODSYNCMINUTES: int
    WODSCRIPTDIR: str
    WODSCRIPTSECONDS: int
    WODSCRIPTNETWORK: list[str]
    BRANDING: str
    BRANDINGWOD: str
    BRANDINGLOGO: str
    BRANDINGURL: str
    BRANDINGLOGOURL: str
    BRANDINGCOLOR: str
    BRANDINGSLACK: str
    BRANDINGX: str
    SURVEYURL: str
    SURVEYCHALURL: str
    WODBASEIMAGE: str
    WODDEBIANMIRROR: str
    WODLABS: list[str]
    WODCABUNDLE: str
    WODHOSTFIREWALL: bool
    WODHOSTPORTS: list[int]
    WODMONITOR: str
    site_variables: dict[str, Any] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, Any]:
        """What notebooks may name: all settings and the site's own variables, which win."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "site_variables"}
        return own | {"WODSTUDDIR": STUDENTS_DIRECTORY} | self.site_variables

    @property
    def outside_url(self) -> str:
        """The address that participants open, without a path."""
        return origin(self.WODBEEXTPROTO, self.WODBEEXTFQDN, self.WODBEEXTPORT)

    @property
    def seat_origin(self) -> str:
        """Where a seat is shown, without a path: `{user}` in it stands for the seat's user, where each has a name."""
        if not self.WODSEATDOMAIN:
            return self.outside_url
        return origin(self.WODBEEXTPROTO, f"{{user}}.{self.WODSEATDOMAIN}", self.WODBEEXTPORT)

    @property
    def serves_api(self) -> bool:
        """Whether the registration API is one of this host's services."""
        return self.WODTYPE != "backend"

    @property
    def api_url(self) -> str:
        """The address of the registration API as it is known outside, without a path."""
        return origin(self.WODAPIDBEXTPROTO, self.WODAPIDBEXTFQDN, self.WODAPIDBEXTPORT)

    @property
    def docker_hosts(self) -> list[DockerHost]:
        """The other Docker hosts that appliances may live on."""
        return [DockerHost.parse(text) for text in self.WODAPPLIANCEHOSTS]

    def to_json(self) -> str:
        """The settings as services read them from /etc/wod/settings.json; holds no secret."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, path: Path) -> "Settings":
        """The settings that `wodctl up` rendered for the services."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise ConfigProblem(
                f"The rendered settings {path} cannot be read: {error}.",
                hint="`wodctl up` writes them anew.",
            ) from None


_FIELDS = {f.name: f.type for f in dataclasses.fields(Settings) if f.name != "site_variables"}


def origin(protocol: str, name: str, port: int) -> str:
    """An address without a path; as browsers write it, without the port that the protocol has anyway."""
    usual = {"http": 80, "https": 443}[protocol]
    return f"{protocol}://{name}" + ("" if port == usual else f":{port}")


def size_in_bytes(text: str) -> int:
    """Bytes of a size such as `512M` or `2G` (binary units). Raises ConfigProblem for any other form."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ConfigProblem(f"{text!r} is no size; expected a number with K, M or G, such as 2G.")
    return int(match[1]) * {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}[match[2]]


def port_range(text: str) -> range | None:
    """The ports of `20000-29999`; none of an empty text, and None for any other form."""
    if not text:
        return range(0)
    match = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text)
    if not match or not 1024 <= int(match[1]) <= int(match[2]) <= 65535:
        return None
    return range(int(match[1]), int(match[2]) + 1)


def is_variable_family(name: str) -> bool:
    """Whether the name belongs to the original's dashed families (IP-WKSHP-Docker101, HTTPPORT-WKSHP-…)."""
    return _DASHED.fullmatch(name) is not None


def merge(layers: Iterable[Layer], *, host_name: str, processors: int) -> tuple[Settings, dict[str, str]]:
    """The effective settings, and the origin of each.

    `host_name` and `processors` describe the host, for the values that are derived from it. Raises ConfigProblem,
    naming the origin, for an unknown name, a wrong type or a value out of range.
    """
    values: dict[str, Any] = {}
    variables: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        for name, entry in layer.items():
            if name == "variables":
                variables |= _own_variables(entry)
                origins |= dict.fromkeys(entry.value or {}, entry.origin)
            elif is_variable_family(name):
                variables[name], origins[name] = entry.value, entry.origin
            else:
                name = ALIASES.get(name, name)
                values[name], origins[name] = _typed(name, entry), entry.origin
    _check(values, origins)
    _derive(values, origins, host_name, processors)
    return Settings(**values, site_variables=variables), origins


def unknown(name: str, origin: str) -> ConfigProblem:
    """The refusal of a name that no setting has."""
    close = difflib.get_close_matches(name, [*_FIELDS, *ALIASES], n=1)
    return ConfigProblem(
        f"{origin}: there is no setting {name!r}.",
        hint=(f"Did you mean {close[0]}? " if close else "")
        + "conf/defaults.yml lists them all; variables of your own for notebooks go under `variables:`.",
    )


def looks_mistyped(name: str) -> bool:
    """Whether the name is almost one of ours: WODUSERMXA, WODPOSTPRT."""
    return bool(difflib.get_close_matches(name, _FIELDS, n=1, cutoff=0.88))


def is_setting(name: str) -> bool:
    """Whether the name, or the short form of it, is one of ours."""
    return name in _FIELDS or name in ALIASES


def _own_variables(entry: Entry) -> dict[str, Any]:
    if entry.value is None:
        return {}
    if not isinstance(entry.value, dict) or not all(isinstance(name, str) for name in entry.value):
        raise ConfigProblem(f"{entry.origin}: `variables` must be a mapping of names to values.")
    settings = [name for name in entry.value if is_setting(name)]
    if settings:
        raise ConfigProblem(
            f"{entry.origin}: {settings[0]} is a setting of ours, not a variable of the site.",
            hint="Put it at the top level of the file.",
        )
    return entry.value


def _typed(name: str, entry: Entry) -> Any:
    """The entry's value in the type of the setting; texts of environment and options are converted."""
    if name not in _FIELDS:
        raise unknown(name, entry.origin)
    expected, value = _FIELDS[name], entry.value
    try:
        if expected is str:
            if isinstance(value, str):
                return value
            if name == "WODTLS" and value is False:  # As YAML reads `off`.
                return "off"
        elif expected is bool:
            if str(value).lower() in _YES_NO:
                return _YES_NO[str(value).lower()]
        elif expected is int:
            if isinstance(value, int | str) and not isinstance(value, bool):
                return int(value)
        elif expected is float:
            if isinstance(value, int | float | str) and not isinstance(value, bool):
                return float(value)
        elif expected == list[int]:
            items = value.split(",") if isinstance(value, str) else value
            if isinstance(items, list) and not any(isinstance(item, bool) for item in items):
                return [int(item) for item in items if str(item).strip()]
        else:
            items = value.split(",") if isinstance(value, str) else value
            if isinstance(items, list) and all(isinstance(item, str) for item in items):
                return [item.strip() for item in items if item.strip()]
    except ValueError:
        pass
    kinds: dict[Any, str] = {str: "a text", bool: "on or off", int: "a whole number", float: "a number"}
    kind = kinds.get(expected, "a list of whole numbers" if expected == list[int] else "a list of texts")
    raise ConfigProblem(f"{entry.origin}: {name} is {value!r}; expected {kind}.")


def _check(values: dict[str, Any], origins: dict[str, str]) -> None:
    missing = [name for name in _FIELDS if name not in values]
    if missing:
        raise ConfigProblem(f"conf/defaults.yml: {missing[0]} is missing.", hint="Restore the file.")

    def require(good: bool, name: str, expected: str) -> None:
        if not good:
            raise ConfigProblem(f"{origins[name]}: {name} is {values[name]!r}; expected {expected}.")

    for name in _FIELDS:
        value = values[name]
        if name.endswith("PORT"):
            least = 0 if "EXT" in name or name in ("WODBEPORT", "WODHTTPPORT") else 1
            require(least <= value <= 65535, name, "a port from 1 to 65535")
        elif name.endswith("PROTO"):
            may_be_empty = "EXT" in name or name in ("WODBEPROTO", "WODAPIDBPROTO")
            require(value in ("http", "https") or (may_be_empty and not value), name, "http or https")
        elif name.endswith("FQDN"):
            require(not value or bool(_NAME.fullmatch(value)), name, "a host name")
    require(bool(_NAME.fullmatch(values["WODGROUP"])), "WODGROUP", "letters, digits, dots and dashes")
    require(bool(_USER.fullmatch(values["WODUSER"])), "WODUSER", "a user name in lower-case letters")
    require(bool(_SENDER.fullmatch(values["WODSENDER"])), "WODSENDER", "a mail address")
    monitor = values["WODMONITOR"]
    require(not monitor or bool(_SENDER.fullmatch(monitor)), "WODMONITOR", "a mail address, or nothing")
    for name in ("WODNOBOREPO", "WODPRIVREPO"):
        if values[name] and not _REPOSITORY.fullmatch(values[name]):
            # Without the value: it may hold what must not be shown.
            raise ConfigProblem(
                f"{origins[name]}: {name} is no address of a repository that can be fetched.",
                hint="Expected https://HOST/PATH, ssh://USER@HOST/PATH, USER@HOST:PATH or file:///PATH, without a "
                "password or token: those are files, see conf/defaults.yml.",
            )
    for name in ("WODNOBOBRANCH", "WODPRIVBRANCH"):
        require(not values[name] or bool(_REF.fullmatch(values[name])), name, "a branch, tag or commit")
    for port in values["WODHOSTPORTS"]:
        require(0 < port < 65536, "WODHOSTPORTS", "ports, from 1 to 65535")
    for name in ("WODBANNEVER", "WODPOSTNETWORKS", "WODTRUSTEDPROXIES"):
        for network in values[name]:
            require(_is_network(network), name, "addresses, or networks as 192.0.2.0/24")
    require(
        not values["OPNSENSEIP"] or bool(_NAME.fullmatch(values["OPNSENSEIP"])),
        "OPNSENSEIP",
        "an address or a host name",
    )
    require(values["WODTYPE"] in TYPES, "WODTYPE", "backend, api-db or all")
    for item in values["WODBACKENDS"]:
        require(
            bool(_BACKEND.fullmatch(item)),
            "WODBACKENDS",
            "HOST[:PORT[:PROTO[:BASE[:SEATS]]]] for each backend",
        )
    require(bool(values["WODAPIDBADMIN"]), "WODAPIDBADMIN", "a user name")
    require(
        values["WODAPIDBADMIN"] != values["WODAPIDBUSER"], "WODAPIDBADMIN", "another name than WODAPIDBUSER"
    )
    require(all(values["WODDENYLIST"]), "WODDENYLIST", "parts of e-mail addresses")
    require(0 <= values["WODAPIDBRATE"] <= 10**6, "WODAPIDBRATE", "a number from 0")
    for origin in values["WODAPIDBCORS"]:
        require(bool(_ORIGIN.fullmatch(origin)), "WODAPIDBCORS", "origins, as https://portal.example.net")
    for network in values["WODAPIDBPROXIES"]:
        require(_is_network(network), "WODAPIDBPROXIES", "addresses, or networks as 192.0.2.0/24")
    require(0.1 <= values["WODAPIDBPATIENCE"] <= 1440, "WODAPIDBPATIENCE", "minutes, from 0.1 to 1440")
    require(1 <= values["WODAPIDBHOUR"] <= 3600, "WODAPIDBHOUR", "seconds, from 1 to 3600")
    require(
        not values["WODSMTPHOST"] or bool(_NAME.fullmatch(values["WODSMTPHOST"])),
        "WODSMTPHOST",
        "a host name",
    )
    require(values["WODSMTPTLS"] in ("starttls", "tls", "none"), "WODSMTPTLS", "starttls, tls or none")
    require(0 <= values["WODSYNCMINUTES"] <= 10080, "WODSYNCMINUTES", "minutes, up to a week, or 0 for never")
    require(values["WODCURLOPT"] in ("", "-k"), "WODCURLOPT", "nothing, or -k")
    require(bool(values["WODAPIDBUSER"]), "WODAPIDBUSER", "a user name")
    server = values["WODLDAPSRVNAME"]
    require(not server or bool(_NAME.fullmatch(server)), "WODLDAPSRVNAME", "the name of a host")
    require(1 <= values["WODLDAPPORT"] <= 65535, "WODLDAPPORT", "a port from 1 to 65535")
    require(
        not server
        or bool(_DISTINGUISHED.fullmatch(values["WODLDAPDMN"]) or _NAME.fullmatch(values["WODLDAPDMN"])),
        "WODLDAPDMN",
        "a domain, or the name below which People is, such as dc=example,dc=org",
    )
    require(
        bool(_USER.fullmatch(values["WODLDAPSETUPUSER"])), "WODLDAPSETUPUSER", "the beginning of a user name"
    )
    require(
        bool(_DISTINGUISHED.fullmatch(values["WODLDAPBINDDN"])), "WODLDAPBINDDN", "a name such as cn=admin"
    )
    require(values["WODBENBR"] >= 0, "WODBENBR", "a number from 0")
    require(values["WODBASESTDID"] >= -1, "WODBASESTDID", "a number from 0, or -1")
    require(1 <= values["WODUSERMIN"] <= 50000, "WODUSERMIN", "a number from 1 to 50000")
    require(
        values["WODUSERMIN"] <= values["WODUSERMAX"] <= 50000,
        "WODUSERMAX",
        f"a number from WODUSERMIN, {values['WODUSERMIN']}, to 50000",
    )
    for name in ("UIDBASE", "GIDBASE"):
        least = LAST_SERVICE_UID + 1 - values["WODUSERMIN"]
        require(least <= values[name] <= 10**6, name, f"a number from {least} to 1000000")
    require(
        bool(_SIZE.fullmatch(values["WODSEATMEMORY"]))
        and size_in_bytes(values["WODSEATMEMORY"]) >= 256 * 2**20,
        "WODSEATMEMORY",
        "a size such as 2G, at least 256M",
    )
    require(0.1 <= values["WODSEATCPUS"] <= 1024, "WODSEATCPUS", "a number of processors, at least 0.1")
    require(64 <= values["WODSEATPIDS"] <= 10**6, "WODSEATPIDS", "a number from 64")
    require(0 <= values["WODSEATSTARTS"] <= 1000, "WODSEATSTARTS", "a number from 0 to 1000")
    seats = values["WODUSERMAX"] - values["WODUSERMIN"] + 1
    require(
        values["WODSEATNETWORK"] == "auto" or _has_room(values["WODSEATNETWORK"], seats),
        "WODSEATNETWORK",
        f"`auto`, or a private IPv4 network as 10.213.0.0/20, of which a quarter has room for {seats} seats",
    )
    require(values["WODTLS"] in WAYS_TO_TLS, "WODTLS", "off, files or acme")
    if values["WODTLS"] == "files":
        for name in ("WODTLSCERT", "WODTLSKEY"):
            require(bool(values[name]), name, "the path of a file, for WODTLS is files")
    require(
        not values["WODACMEDIRECTORY"]
        or (
            values["WODACMEDIRECTORY"].startswith("https://")
            and bool(_ADDRESS.fullmatch(values["WODACMEDIRECTORY"]))
        ),
        "WODACMEDIRECTORY",
        "an address https://HOST/…",
    )
    require(
        not values["WODACMEMAIL"] or bool(_SENDER.fullmatch(values["WODACMEMAIL"])),
        "WODACMEMAIL",
        "a mail address",
    )
    require(
        not values["WODSEATDOMAIN"] or bool(_NAME.fullmatch(values["WODSEATDOMAIN"])),
        "WODSEATDOMAIN",
        "a domain",
    )
    require(
        not values["WODSEATDOMAIN"] or values["WODTLS"] != "acme",
        "WODSEATDOMAIN",
        "nothing, for WODTLS is acme: authorities give wildcard certificates another way; use WODTLS: files",
    )
    require(
        values["WODTLS"] != "acme" or values["WODHTTPPORT"] > 0,
        "WODHTTPPORT",
        "a port, for WODTLS is acme: the authority asks there whose the name is",
    )
    require(
        values["WODLABS"] == ["auto"] or all(_LAB.fullmatch(name) for name in values["WODLABS"]),
        "WODLABS",
        "[auto], or names of folders below images/labs",
    )
    for name in ("BRANDING", "BRANDINGWOD"):
        require(bool(_BRAND.fullmatch(values[name])), name, "a name of one line, at most 80 characters")
    for name in ("BRANDINGURL", "BRANDINGLOGOURL"):
        require(
            not values[name] or bool(_ADDRESS.fullmatch(values[name])), name, "an address http(s)://HOST/…"
        )
    require(
        not values["BRANDINGCOLOR"] or bool(_COLOR.fullmatch(values["BRANDINGCOLOR"])),
        "BRANDINGCOLOR",
        "a colour as '#0b6e6b', in quotes",
    )
    require(1 <= values["WODSCRIPTSECONDS"] <= 3600, "WODSCRIPTSECONDS", "seconds, from 1 to 3600")
    require(0.001 <= values["WODCOOKIEDAYS"] <= 365, "WODCOOKIEDAYS", "days, from 0.001 to 365")
    require(
        values["WODSEATDISK"] == "0"
        or (bool(_SIZE.fullmatch(values["WODSEATDISK"])) and size_in_bytes(values["WODSEATDISK"]) >= 2**24),
        "WODSEATDISK",
        "a size such as 5G, at least 16M, or 0 for no limit",
    )
    require(
        values["WODSEATFILES"] == 0 or 1000 <= values["WODSEATFILES"] <= 10**8,
        "WODSEATFILES",
        "a number from 1000, or 0 for no limit",
    )
    require(0 <= values["WODLEASEWARNING"] <= 600, "WODLEASEWARNING", "minutes, from 0 to 600")
    require(values["WODRUNAWAYS"] in ("ignore", "report", "stop"), "WODRUNAWAYS", "ignore, report or stop")
    require(0.01 <= values["WODRUNAWAYMINUTES"] <= 1440, "WODRUNAWAYMINUTES", "minutes, from 0.01 to 1440")
    require(0.05 <= values["WODRUNAWAYCPUS"] <= 1024, "WODRUNAWAYCPUS", "a number of processors, from 0.05")
    for name in ("WODKERNELHOURS", "WODIDLEHOURS"):
        require(values[name] == 0 or 0.001 <= values[name] <= 8760, name, "hours, from 0.001, or 0 for never")
    for name in ("WODKEEPREJECTED", "WODKEEPACTIONS"):
        require(0 <= values[name] <= 36500, name, "days, or 0 for ever")
    require(
        _are_docker_hosts(values["WODAPPLIANCEHOSTS"]),
        "WODAPPLIANCEHOSTS",
        "ssh://USER@HOST[:PORT] or tcp://HOST[:PORT] for each host, and each host once",
    )
    require(
        port_range(values["WODPORTPOOL"]) is not None, "WODPORTPOOL", "two ports as 20000-29999, or nothing"
    )


def _check_seat_domain(values: dict[str, Any], origins: dict[str, str]) -> None:
    if values["WODSEATDOMAIN"] and values["WODBEEXTPROTO"] != values["WODBEPROTO"]:
        raise ConfigProblem(
            f"{origins['WODSEATDOMAIN']}: WODSEATDOMAIN is {values['WODSEATDOMAIN']!r}; expected nothing where TLS "
            "ends in front of this host.",
            hint="With WODTLS: files it ends here.",
        )


def _check_protocols(values: dict[str, Any], origins: dict[str, str]) -> None:
    """What this host speaks, and on which ports, once all of it is known."""
    tls = values["WODTLS"] != "off"
    ours = {"WODBEPROTO"} | ({"WODAPIDBPROTO"} if values["WODTYPE"] != "backend" else set())
    for name in sorted(ours):
        if (values[name] == "https") != tls:
            expected = (
                f"https, for WODTLS is {values['WODTLS']}"
                if tls
                else "http: for https set WODTLS or, where TLS ends in front of this host, WODBEEXTPROTO"
            )
            raise ConfigProblem(f"{origins[name]}: {name} is {values[name]!r}; expected {expected}.")
    taken = ["WODBEPORT"] + (["WODHTTPPORT"] if tls and values["WODHTTPPORT"] else [])
    taken += ["WODAPIDBPORT"] if values["WODTYPE"] != "backend" else []
    for place, name in enumerate([*taken, "WODPOSTPORT"]):
        for other in taken[:place]:
            if values[name] == values[other]:
                raise ConfigProblem(
                    f"{origins[name]}: {name} is {values[name]!r}; expected another port than {other}."
                )


def _are_docker_hosts(texts: list[str]) -> bool:
    try:
        names = [DockerHost.parse(text).name for text in texts]
    except ValueError:
        return False
    return len(names) == len(set(names))


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _has_room(text: str, seats: int) -> bool:
    """Whether seats, which get a quarter of the network, all find an address there."""
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError:
        return False
    return network.is_private and network.num_addresses // 4 > FIRST_PLACE + seats


def _derive(values: dict[str, Any], origins: dict[str, str], host_name: str, processors: int) -> None:
    """Fill in what is left open, as the original's installer does: portal from backend, API from portal, external
    from internal."""

    def default(name: str, value: Any, reason: str) -> None:
        if values[name] in ("", 0, -1):
            values[name], origins[name] = value, reason

    tls = values["WODTLS"] != "off"
    default("WODBEPORT", 443 if tls else 8000, "WODTLS")
    default("WODBEPROTO", "https" if tls else "http", "WODTLS")
    default("WODAPIDBPROTO", "https" if tls and values["WODTYPE"] != "backend" else "http", "WODTLS")
    _check_protocols(values, origins)
    default("WODBEFQDN", host_name, "name of this host")
    default("WODFEFQDN", values["WODBEFQDN"], "WODBEFQDN")
    default("WODAPIDBFQDN", values["WODFEFQDN"], "WODFEFQDN")
    for part in ("BE", "FE", "APIDB"):
        for what in ("FQDN", "PORT", "PROTO"):
            default(f"WOD{part}EXT{what}", values[f"WOD{part}{what}"], f"WOD{part}{what}")
    _check_seat_domain(values, origins)
    if values["WODBASESTDID"] == -1:
        values["WODBASESTDID"] = values["WODUSERMAX"] * values["WODBENBR"]
        origins["WODBASESTDID"] = "WODUSERMAX times WODBENBR"
    if values["WODTYPE"] == "all" and not values["WODAPIDB"]:
        values["WODAPIDB"], origins["WODAPIDB"] = True, "WODTYPE"
    default("WODSEATSTARTS", processors + 1, "processors of this host, plus one")
