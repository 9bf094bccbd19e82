"""The state directory of a site: folders, secrets and rendered files, each with the owner that it needs."""

import base64
import fcntl
import hashlib
import ipaddress
import json
import os
import secrets
import shutil
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml

from wodctl.adapters import process, quota, repositories
from wodctl.errors import ConfigProblem, StackProblem
from wodctl.model import docker_host, proxy
from wodctl.model.docker_host import DockerHost
from wodctl.model.settings import Settings

DB, HUB, MAIL, PROXY, WORKER = 1800, 1801, 1802, 1803, 1804
GATE, DOORMAN, API, FAIL2BAN = 1805, 1809, 1810, 1816
"""Uids and gids of the services, as in images/base/Dockerfile and, for the last three, their own."""
# The repositories are the operator's, and the service has his uid, but for root: that is no uid for a service.
FETCH = repositories.OWNER if os.geteuid() == 0 else -1
DATA = 1808
"""The group whose members reach the database's socket."""

API_PASSWORD, OWN_API_PASSWORD = "api-password", "own-api-password"
"""In secrets/worker: what opens a registration API elsewhere, and what opens that of this host."""

VAULT_PASSWORD = "secrets/vault-password"  # noqa: S105 - a name
"""Where the operator puts the password of the site's Ansible Vault; empty until he does."""

LARGEST_LOGO = 64 * 1024
"""Bytes of a site's logo."""

# Interfaces that the engine makes: their addresses come and go with its networks.
_ENGINE_INTERFACES = ("docker", "br-", "veth", "wod-")


# The settings that a service reads, and so those that restart it when they change. The worker reads all of them.
_READ_BY = {
    "api-db": ("BRANDINGCOLOR", "BRANDINGLOGOURL", "BRANDINGSLACK", "BRANDINGURL", "BRANDINGWOD", "BRANDINGX",
               "WODAPIDBADMIN", "WODAPIDBCORS", "WODAPIDBEXTFQDN", "WODAPIDBEXTPORT", "WODAPIDBEXTPROTO",
               "WODAPIDBFQDN", "WODAPIDBHOUR", "WODAPIDBPATIENCE", "WODAPIDBPORT", "WODAPIDBPROTO", "WODAPIDBPROXIES",
               "WODAPIDBRATE", "WODAPIDBUSER", "WODBEEXTFQDN", "WODDENYLIST", "WODFEEDBACKURL", "WODFEEXTFQDN",
               "WODFEEXTPORT", "WODFEEXTPROTO", "WODFEFQDN", "WODFEPORT", "WODFEPROTO", "WODPOSTPORT", "WODSENDER",
               "WODSMTPHOST", "WODSMTPPORT", "WODSMTPTLS", "WODSMTPUSER", "WODTYPE", "WODUSER"),
    "doorman": ("BRANDING", "BRANDINGCOLOR"),
    "gate": ("GIDBASE", "UIDBASE", "WODAPPLIANCEPRIVILEGES",
             "WODSEATCPUS", "WODSEATMEMORY", "WODSEATPIDS", "WODUSERMAX", "WODUSERMIN"),
    "hub": ("BRANDING", "BRANDINGCOLOR", "BRANDINGURL", "BRANDINGWOD", "GIDBASE", "UIDBASE", "WODBEEXTFQDN",
            "WODBEEXTPORT", "WODBEEXTPROTO", "WODCOOKIEDAYS", "WODLEASEWARNING", "WODSEATCPUS", "WODSEATMEMORY",
            "WODSEATPIDS", "WODSEATSTARTS", "WODTLS", "WODTRUSTEDPROXIES", "WODUSERMAX", "WODUSERMIN"),
    "intake": ("WODSENDER",),
}  # fmt: skip

# Who reads the files and folders below `rendered` that do not have their service's name.
_READERS = {"postfix": "mail", "traefik.yml": "proxy"}


@dataclass(frozen=True)
class Owned:
    """A folder or file below the state directory with the owner, group and mode that it must have."""

    path: str
    uid: int
    gid: int
    mode: int


FOLDERS = (
    Owned("conf", -1, -1, 0o755),
    Owned("rendered", -1, -1, 0o755),
    Owned("rendered/appliances", -1, -1, 0o755),
    Owned("rendered/fail2ban", -1, -1, 0o755),
    Owned("rendered/postfix", -1, -1, 0o755),
    Owned("secrets", -1, -1, 0o700),
    Owned("secrets/api-db", -1, -1, 0o700),
    Owned("secrets/doorman", -1, -1, 0o700),
    Owned("secrets/fail2ban", -1, -1, 0o700),
    Owned("secrets/hub", -1, -1, 0o700),
    # Mounted whole, so that a renewed certificate needs no new container; its files are the proxy's alone.
    Owned("secrets/proxy", -1, -1, 0o711),
    Owned(repositories.SECRETS, FETCH, FETCH, 0o700),
    Owned(docker_host.FOLDER, os.geteuid(), GATE, 0o750),
    Owned("secrets/worker", -1, -1, 0o700),
    # The operator's to fill: what his scripts find as files.
    Owned("secrets/scripts", -1, -1, 0o700),
    Owned("run", -1, -1, 0o755),
    # The owner is who runs us: his commands ask the database.
    Owned("run/db", os.geteuid(), DATA, 0o770),
    # Who was refused, as the hub and the mail service note it for fail2ban; whom that bans, and the host's addresses.
    Owned("run/logins", HUB, FAIL2BAN, 0o2750),
    Owned("run/refusals", 0, FAIL2BAN, 0o2750),
    Owned("run/bans", FAIL2BAN, FAIL2BAN, 0o755),
    Owned("run/firewall", 0, 0, 0o755),
    # Root's, who has no right in there to pass over permissions.
    Owned("run/egress", 0, WORKER, 0o2750),
    Owned("run/intake", MAIL, MAIL, 0o700),
    Owned("run/gate", -1, -1, 0o755),
    Owned("run/gate/hub", GATE, HUB, 0o2750),
    Owned("run/gate/worker", GATE, WORKER, 0o2750),
    Owned("run/gate/worker/elsewhere", GATE, WORKER, 0o2750),
    Owned("data", -1, -1, 0o711),
    Owned("data/appliances", -1, -1, 0o755),
    Owned("data/bans", FAIL2BAN, FAIL2BAN, 0o700),
    Owned("data/certificates", PROXY, PROXY, 0o700),
    Owned("data/db", DB, DB, 0o700),
    Owned("data/egress", 0, 0, 0o755),
    Owned("data/mail", 0, 0, 0o755),
    Owned(repositories.FOLDER, -1, -1, 0o755),
    Owned(f"{repositories.FOLDER}/public", FETCH, FETCH, 0o755),
    Owned(f"{repositories.FOLDER}/private", FETCH, FETCH, 0o700),
    Owned("data/scripts", WORKER, WORKER, 0o711),
    Owned("data/students", WORKER, WORKER, 0o711),
    Owned("data/routes", HUB, PROXY, 0o2750),
)


class StateDirectory:
    """What `wodctl up` prepares on the host before it starts the services; each call may be made again."""

    def __init__(self, path: Path, root: Path) -> None:
        self.path = path
        self.root = root

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the state directory for ourselves: two `up` at once would undo each other's work."""
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / "lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StackProblem(
                    f"Another wodctl is at work on {self.path}.",
                    hint="Wait until it has ended, then try again.",
                ) from None
            yield

    def ensure_folders(self, base_image: str) -> None:
        """Make the folders; `base_image` lends the rights to give them away where we are not root."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o711)
        for folder in FOLDERS:
            (self.path / folder.path).mkdir(exist_ok=True)
        self._ensure_owned(FOLDERS, base_image)
        keys = sorted(one.name for one in (self.path / repositories.SECRETS).iterdir() if one.is_file())
        self._ensure_owned(
            [Owned(f"{repositories.SECRETS}/{key}", FETCH, FETCH, 0o600) for key in keys], base_image
        )

    def ensure_secrets(self, base_image: str) -> str:
        """Generate what is missing; returns a fingerprint that changes with the secrets and tells nothing of them."""
        token, seat_key = secrets.token_hex(32), secrets.token_hex(32)
        wanted = {
            Owned("secrets/hub/cookie-secret", HUB, HUB, 0o400): secrets.token_hex(32),
            Owned("secrets/hub/proxy-password", HUB, HUB, 0o400): secrets.token_urlsafe(32),
            Owned("secrets/hub/admin-token", HUB, HUB, 0o400): token,
            Owned("secrets/worker/hub-token", WORKER, WORKER, 0o400): token,
            Owned(VAULT_PASSWORD, WORKER, WORKER, 0o400): "",
            # The operator's to fill in, with what his OPNsense knows.
            Owned("secrets/fail2ban/opnsense-key", FAIL2BAN, FAIL2BAN, 0o400): "",
            Owned("secrets/fail2ban/opnsense-secret", FAIL2BAN, FAIL2BAN, 0o400): "",
            # The operator's to fill in, with what the registration API knows.
            Owned(f"secrets/worker/{API_PASSWORD}", WORKER, WORKER, 0o400): "",
            Owned("secrets/worker/ldap-password", WORKER, WORKER, 0o400): "",
            # During a test event: the password of every seat.
            Owned("secrets/worker/fixed-password", WORKER, WORKER, 0o400): "",
            # A key that opens machines of the site, and their host keys as ssh writes them.
            Owned("secrets/worker/machine-key", WORKER, WORKER, 0o400): "",
            Owned("secrets/worker/machine-hosts", WORKER, WORKER, 0o400): "",
            Owned("secrets/doorman/seat-key", DOORMAN, DOORMAN, 0o400): seat_key,
            Owned("secrets/hub/seat-key", HUB, HUB, 0o400): seat_key,
            Owned("secrets/worker/seat-key", WORKER, WORKER, 0o400): seat_key,
        }
        # What several services share is new for all of them, or for none; what is empty is the operator's to fill in.
        missing = [owned for owned in wanted if not (self.path / owned.path).exists()]
        new = {wanted[owned] for owned in missing}
        for owned, text in wanted.items():
            if owned in missing or (text and text in new):
                self._write(self.path / owned.path, text, mode=0o600)
        self._ensure_owned(wanted, base_image)
        return self._mark(wanted)

    def ensure_host_keys(self, hosts: Iterable[DockerHost], base_image: str) -> None:
        """The gate may read what opens other Docker hosts, each in a folder of its own, for the operator to fill.

        Raises ConfigProblem for a host without its files.
        """
        for host in hosts:
            folder = f"{docker_host.FOLDER}/{host.name}"
            (self.path / folder).mkdir(exist_ok=True)
            missing = [name for name in host.files if not (self.path / folder / name).is_file()]
            if missing:
                raise ConfigProblem(
                    f"The Docker host {host.name} (WODAPPLIANCEHOSTS) cannot be reached without {', '.join(missing)}.",
                    hint=f"Write them into {self.path / folder}/; docs/appliances.md says what they are.",
                )
            files = [Owned(f"{folder}/{name}", os.geteuid(), GATE, 0o440) for name in host.files]
            self._ensure_owned([Owned(folder, os.geteuid(), GATE, 0o750), *files], base_image)

    def ensure_api_secrets(self, base_image: str) -> str:
        """Generate what the registration API needs; returns a fingerprint as `ensure_secrets` does."""
        wanted = {
            Owned("secrets/api-db/admin-password", API, API, 0o400): secrets.token_urlsafe(18),
            Owned("secrets/api-db/seal-key", API, API, 0o400): base64.urlsafe_b64encode(
                os.urandom(32)
            ).decode(),
            Owned("secrets/api-db/token-key", API, API, 0o400): secrets.token_hex(32),
            # The operator's to fill in, with what the relay knows.
            Owned("secrets/api-db/smtp-password", API, API, 0o400): "",
        }
        for owned, text in wanted.items():
            if not (self.path / owned.path).exists():
                self._write(self.path / owned.path, text, mode=0o600)
        # The same for both, and not where the password of an API elsewhere is kept: that is the operator's.
        moderator = Owned("secrets/api-db/moderator-password", API, API, 0o400)
        own = Owned(f"secrets/worker/{OWN_API_PASSWORD}", WORKER, WORKER, 0o400)
        known = self.path / moderator.path
        if not (known.exists() and (self.path / own.path).exists()):
            # Backends elsewhere may know it already; who is not root cannot read it, and they must be told a new one.
            password = known.read_text() if os.access(known, os.R_OK) else secrets.token_urlsafe(18)
            for owned in (moderator, own):
                self._write(self.path / owned.path, password, mode=0o600)
        self._ensure_owned([*wanted, moderator, own], base_image)
        return self._mark([*wanted, moderator, own])

    def _mark(self, wanted: Iterable[Owned]) -> str:
        made = [f"{owned.path} {(self.path / owned.path).stat().st_mtime_ns}" for owned in wanted]
        return _fingerprint("\n".join(made))

    def has_secret(self, name: str, service: str = "worker") -> bool:
        """Whether the operator has filled in that secret of the service."""
        path = self.path / "secrets" / service / name
        return path.exists() and path.stat().st_size > 1

    def rendered(self, settings: Settings) -> dict[str, str]:
        """The files below `rendered` that services read their settings from, by name."""
        own = {name: {key: getattr(settings, key) for key in keys} for name, keys in _READ_BY.items()}
        own["fetch"] = {"repositories": fetched(settings), "minutes": settings.WODSYNCMINUTES}
        for name in ("api-db", "hub"):
            own[name]["logo"] = settings.BRANDINGLOGOURL or logo_of(settings.WODPRIVDIR)
        own["hub"]["seat_origin"] = settings.seat_origin if settings.WODSEATDOMAIN else ""
        if settings.WODTLS != "off":
            # The proxy is the only one who comes to it from outside then, and says who he speaks for.
            own["api-db"]["WODAPIDBPROXIES"] = ["*"]
        files = {f"{name}.json": json.dumps(values, indent=1) + "\n" for name, values in own.items()}
        files["worker.json"] = settings.to_json()
        base = yaml.safe_load((self.root / "conf" / "traefik" / "traefik.yml").read_text())
        files["traefik.yml"] = yaml.safe_dump(proxy.static(base, settings), sort_keys=False)
        names = settings.variables | {
            "mail_networks": mail_networks(settings),
            "never_banned": never_banned(settings),
        }
        for folder in ("fail2ban", "postfix"):
            files |= self._templates_of(folder, names)
        return files

    def _templates_of(self, folder: str, names: dict[str, Any]) -> dict[str, str]:
        """What the templates in a folder of conf give, by the name of the file."""
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(self.root / "conf" / folder),
            undefined=jinja2.StrictUndefined,
            keep_trailing_newline=True,
            autoescape=False,  # noqa: S701 - main.cf is no HTML; the settings' grammar keeps line ends out
        )
        return {
            f"{folder}/{template.removesuffix('.j2')}": environment.get_template(template).render(names)
            for template in sorted(environment.list_templates(extensions=["j2"]))
        }

    def render(self, settings: Settings) -> dict[str, str]:
        """Write what the services read; returns a fingerprint for each of them that changes with its files."""
        read: dict[str, str] = {}
        for name, text in self.rendered(settings).items():
            self._write(self.path / "rendered" / name, text, mode=0o644)
            first = name.partition("/")[0]
            service = _READERS.get(first, first.removesuffix(".json"))
            read[service] = read.get(service, "") + text
        return {name: _fingerprint(text) for name, text in read.items()}

    def ensure_certificate(self, text: bytes, base_image: str) -> str:
        """Give the proxy certificate and key in one file; returns its name, which is that of no other certificate.

        The file has its content at once or does not exist; those of former certificates are for `forget_certificates`.
        """
        name = f"{hashlib.sha256(text).hexdigest()[:16]}.pem"
        path = self.path / "secrets" / "proxy" / name
        if not path.exists():
            fresh = path.with_suffix(".new")
            fresh.unlink(missing_ok=True)
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        self._ensure_owned([Owned(f"secrets/proxy/{name}", PROXY, PROXY, 0o400)], base_image)
        return name

    def forget_certificates(self, kept: str | None) -> None:
        """Remove the certificates that the proxy does not use any more."""
        for path in (self.path / "secrets" / "proxy").iterdir():
            if path.name != kept:
                path.unlink()

    def ensure_site_routes(self, document: Mapping[str, Any], base_image: str) -> None:
        """Put what of the proxy's configuration follows from the settings beside the hub's routes; live at once."""
        text = json.dumps(document, indent=1) + "\n"
        if os.geteuid() == 0:
            self._write(self.path / "data" / "routes" / "site.yaml", text, mode=0o640)
            return
        self._write(self.path / "rendered" / "site.yaml", text, mode=0o644)
        # In one step: the proxy looks at every file of the folder as soon as it is there.
        there = "/state/data/routes/site"
        self._as_root(base_image, ["cp", "/state/rendered/site.yaml", f"{there}.new"])
        self._as_root(base_image, ["chmod", "640", f"{there}.new"])
        self._as_root(base_image, ["mv", f"{there}.new", f"{there}.yaml"])

    def has_other_settings(self, settings: Settings) -> bool:
        """Whether the services were given other settings than these; False before the first `up`."""
        rendered = self.path / "rendered" / "worker.json"
        return rendered.exists() and rendered.read_text() != settings.to_json()

    def write_compose_environment(self, values: dict[str, str]) -> Path:
        """Write the variables that compose/stack.yml names, and return the file for `--env-file`."""
        path = self.path / "rendered" / "compose.env"
        self._write(path, "".join(f"{name}={value}\n" for name, value in sorted(values.items())), mode=0o644)
        return path

    def empty_folder(self) -> Path:
        """A folder with nothing in it, to mount where a site has nothing to give."""
        folder = self.path / "rendered" / "none"
        folder.mkdir(exist_ok=True)
        return folder

    def remembered(self, name: str) -> str | None:
        """A decision of an earlier `up` that must stay, such as the seats' network."""
        try:
            return str(json.loads((self.path / "decisions.json").read_text())[name])
        except (FileNotFoundError, KeyError):
            return None

    def remember(self, name: str, value: str) -> None:
        """Keep a decision for the next `up`."""
        path = self.path / "decisions.json"
        former = json.loads(path.read_text()) if path.exists() else {}
        self._write(path, json.dumps(former | {name: value}, indent=1) + "\n", mode=0o644)

    def limit_disk(self, first_uid: int, seats: int, size: int, files: int, base_image: str) -> str | None:
        """Give these uids quotas of bytes and files (0: any) where the homes are; why that cannot be, else None."""
        students = self.path / "data" / "students"
        if os.geteuid() == 0:
            return quota.set_limits(students, first_uid, seats, size, files)
        words = ["/quota.py", "/students", *map(str, (first_uid, seats, size, files))]
        mounts = {quota.__file__: "/quota.py", str(students): "/students"}
        options = [
            f"--mount=type=bind,readonly,source={here},target={there}" for here, there in mounts.items()
        ]
        options += ["--network=none", "--user=0", "--cap-drop=ALL", "--cap-add=SYS_ADMIN"]
        answer = process.run(["docker", "run", "--rm", *options, base_image, "python3", "-I", *words])
        return answer.strip() or None

    def remove(self, folders: Iterable[str], base_image: str) -> None:
        """Remove folders with all that is in them, whoever owns it."""
        present = [folder for folder in folders if (self.path / folder).exists()]
        if os.geteuid() == 0:
            for folder in present:
                shutil.rmtree(self.path / folder)
        elif present:
            self._as_root(base_image, ["rm", "-r", *(f"/state/{folder}" for folder in present)])

    def _ensure_owned(self, wanted: Iterable[Owned], base_image: str) -> None:
        wrong = [owned for owned in wanted if not self._is_right(owned)]
        if os.geteuid() == 0:
            for owned in wrong:
                os.chown(self.path / owned.path, owned.uid, owned.gid)
                os.chmod(self.path / owned.path, owned.mode)
            return
        # The engine's users are as good as root: let a container of ours do what we may not.
        for owned in wrong:
            if owned.uid == -1:
                os.chmod(self.path / owned.path, owned.mode)
                continue
            target = f"/state/{owned.path}"
            self._as_root(base_image, ["chown", f"{owned.uid}:{owned.gid}", target])
            self._as_root(base_image, ["chmod", f"{owned.mode:o}", target])

    def _as_root(self, base_image: str, words: list[str]) -> None:
        """Run a command on the state directory, at /state, in a container: whoever may use the engine may do so."""
        mount = f"--mount=type=bind,source={self.path},target=/state"
        process.run(["docker", "run", "--rm", "--network=none", "--user=0", mount, base_image, *words])

    def _is_right(self, owned: Owned) -> bool:
        found = (self.path / owned.path).stat()
        return (
            owned.uid in (-1, found.st_uid)
            and owned.gid in (-1, found.st_gid)
            and found.st_mode & 0o7777 == owned.mode
        )

    def _write(self, path: Path, text: str, *, mode: int) -> None:
        """Write a file at once or not at all, and only if it changes, so that times tell of changes."""
        if path.exists() and os.access(path, os.R_OK) and path.read_text() == text:
            return
        fresh = path.with_name(path.name + ".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.chmod(mode)
        fresh.replace(path)


def fetched(settings: Settings) -> dict[str, tuple[str, str]]:
    """The repositories that service `fetch` looks after: those on the network, unless WODSYNCMINUTES is 0."""
    named = repositories.sources(settings) if settings.WODSYNCMINUTES else {}
    return {kind: (url, branch) for kind, (url, branch) in named.items() if repositories.is_far(url)}


def logo_of(private: str) -> str:
    """The picture branding/logo.svg or .png of a private repository, as an address that holds it; else nothing.

    Raises ConfigProblem for a file that is no such picture, or a large one: it comes with each page.
    """
    for name, kind in (("logo.svg", "image/svg+xml"), ("logo.png", "image/png")):
        path = Path(private, "branding", name)
        if not private or not path.is_file():
            continue
        content = path.read_bytes() if path.resolve().is_relative_to(Path(private).resolve()) else b""
        is_one = content.startswith(b"\x89PNG\r\n") if kind == "image/png" else b"<svg" in content[:2000]
        if not is_one or len(content) > LARGEST_LOGO:
            raise ConfigProblem(
                f"{path} is not a picture for the hub's pages: expected {kind}, at most {LARGEST_LOGO // 1024} KiB.",
                hint="Save it smaller, or take it away: BRANDINGLOGOURL may name one on a web server.",
            )
        return f"data:{kind};base64,{base64.b64encode(content).decode()}"
    return ""


def mail_networks(settings: Settings) -> list[str]:
    """Who may send action mails: the configured networks, this host's own addresses, and the registration API."""
    found = dict.fromkeys(settings.WODPOSTNETWORKS)
    for _, interface in socket.if_nameindex():
        if not interface.startswith(_ENGINE_INTERFACES):
            found |= dict.fromkeys(_address_of(interface))
    if settings.WODTYPE == "backend" and settings.WODAPIDBFQDN != settings.WODBEFQDN:
        found |= dict.fromkeys(_addresses(settings.WODAPIDBFQDN))
    return list(found)


def never_banned(settings: Settings) -> list[str]:
    """Addresses and networks that no ban concerns: portals, proxies, whom the site trusts, and the host by itself."""
    named = ["127.0.0.0/8", *mail_networks(settings), *settings.WODTRUSTEDPROXIES, *settings.WODBANNEVER]
    networks = [ipaddress.ip_network(network) for network in named]
    # Each address once: packet filters take no networks that overlap.
    found = [
        *ipaddress.collapse_addresses(n for n in networks if isinstance(n, ipaddress.IPv4Network)),
        *ipaddress.collapse_addresses(n for n in networks if isinstance(n, ipaddress.IPv6Network)),
    ]
    return [str(network) for network in found]


def _address_of(interface: str) -> list[str]:
    """The first IPv4 address of a network interface, if it has one (ioctl SIOCGIFADDR, netdevice(7))."""
    request = struct.pack("256s", interface.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            answer = fcntl.ioctl(any_socket, 0x8915, request)
        except OSError:
            return []
    return [socket.inet_ntoa(answer[20:24])]


def _addresses(name: str) -> list[str]:
    try:
        return sorted({str(entry[4][0]) for entry in socket.getaddrinfo(name, None, socket.AF_INET)})
    except OSError:
        raise StackProblem(
            f"The registration API's name {name} (WODAPIDBFQDN) cannot be resolved, so its mails would be refused.",
            hint="Correct the name, or give the portal's addresses in WODPOSTNETWORKS and leave WODAPIDBFQDN empty.",
        ) from None


def _fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
