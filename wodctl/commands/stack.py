"""`wodctl up`, `down`, `status`, `logs`: the services of the stack."""

import hashlib
import ipaddress
import json
import os
import socket
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import click
import yaml

from wodctl.adapters import certificate, configuration
from wodctl.adapters.backup import Backups
from wodctl.adapters.certificate import Certificate
from wodctl.adapters.database import connect_as_operator
from wodctl.adapters.engine import Service
from wodctl.adapters.process import ProgramFailed
from wodctl.adapters.repositories import OWNER, Repositories
from wodctl.adapters.state import API_PASSWORD, OWN_API_PASSWORD, StateDirectory, fetched, never_banned
from wodctl.commands.appliance import (
    deliver_elsewhere,
    ensure_current,
    folder_of,
    remove_elsewhere,
    render_appliances,
    render_reach,
)
from wodctl.commands.host import published_ports
from wodctl.commands.image import ensure_built, ensure_labs
from wodctl.commands.notebooks import documents, ensure_fetched
from wodctl.commands.registration import serves_registrations, update_catalogue
from wodctl.commands.site import Site, pass_site
from wodctl.commands.student import take_back
from wodctl.errors import ConfigProblem, StackProblem, UsageProblem
from wodctl.model import proxy
from wodctl.model.backend import backends
from wodctl.model.manifest import plain_name
from wodctl.model.seat import user_name
from wodctl.model.settings import TYPES, WAYS_TO_TLS, Settings, size_in_bytes

ENGINE_SOCKET = Path("/var/run/docker.sock")
FIXED = "One password opens every seat (secrets/worker/fixed-password): for a test event only."
HUB_HOST, PROXY_HOST = 2, 3
"""Places of the hub and the proxy within the seats' network; the gateway has the first."""


PROFILE = "api-db"
"""Of compose/stack.yml: the services that a mere backend does without."""


class Address(click.ParamType):
    """`HOST[:PORT[:PROTO]]`, the original installer's form."""

    name = "host[:port[:proto]]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """Return what is given of FQDN, PORT and PROTO."""
        parts = str(value).split(":")
        if len(parts) > 3 or not all(parts):
            self.fail(f"{value!r} is not HOST, HOST:PORT or HOST:PORT:PROTO.", param, ctx)
        return dict(zip(("FQDN", "PORT", "PROTO"), parts, strict=False))


class Addresses(Address):
    """The same, and several of them: `one.example.net,two.example.net:8000:https`."""

    name = "host[:port[:proto]][,…]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a list of what is given of each."""
        found = [super(Addresses, self).convert(part, param, ctx) for part in str(value).split(",")]
        if len(found) > 1 and any(
            set(one) == {"FQDN", "PORT"} and not one["PORT"].isdigit() for one in found
        ):
            self.fail(f"{value!r} is not HOST[:PORT[:PROTO]],…", param, ctx)
        return found


@click.command()
@click.option("-t", "--type", "kind", type=click.Choice(TYPES), help="What this host is to be (WODTYPE).")
@click.option("-g", "--group", metavar="NAME", help="Group of settings to use (WODGROUP).")
@click.option(
    "-b", "--backend", type=Addresses(), help="This backend as named inside; with -t api-db, all it serves."
)
@click.option("-j", "--backend-external", type=Address(), help="This backend as named outside.")
@click.option("-n", "--number", type=click.IntRange(1), metavar="N", help="Number of this backend, from 1.")
@click.option("-f", "--frontend", type=Address(), help="The portal as named inside.")
@click.option("-w", "--frontend-external", type=Address(), help="The portal as named outside.")
@click.option("-a", "--api", type=Address(), help="The registration API as named inside.")
@click.option("-e", "--api-external", type=Address(), help="The registration API as named outside.")
@click.option("-c", "--any-certificate", is_flag=True, help="Accept any certificate of the registration API.")
@click.option("-u", "--user", metavar="NAME", help="Local part of the address of action mails (WODUSER).")
@click.option("-p", "--post-port", type=int, metavar="PORT", help="Port of action mails (WODPOSTPORT).")
@click.option("--tls", type=click.Choice(WAYS_TO_TLS), help="Where the certificate comes from (WODTLS).")
@click.option("--certificate", type=click.Path(path_type=Path), help="With --tls files: WODTLSCERT.")
@click.option("--key", type=click.Path(path_type=Path), help="With --tls files: WODTLSKEY.")
@click.option("-s", "--sender", metavar="ADDRESS", help="Envelope sender of action mails (WODSENDER).")
@pass_site
def up(site: Site, **options: Any) -> None:
    """Build what is missing, start every service, wait until all are healthy.

    Options are remembered for the commands that follow. A second `up` changes nothing, and restarts only what
    its changed settings concern.

    \b
    Examples:
      wodctl up
      wodctl up -g staging -b jup.example.net:8000 -s portal@example.net
      wodctl up -t all
      wodctl up -b jup.example.net --tls files --certificate fullchain.pem --key privkey.pem
      wodctl up -t api-db -b one.example.net,two.example.net:8000:https
    """
    site.options = given = settings_of(options)
    settings = site.settings
    engine = site.engine
    state = StateDirectory(site.state, site.root)
    with state.locked():
        _ensure_same_site(site, state)
        given_certificate = _certificate(settings)
        _ensure_ports_free(site)
        state.remember("project", site.project)
        ensure_fetched(site)
        settings = site.settings
        served = backends(settings) if serves_registrations(settings) else []
        ensure_built(site, _images(site))
        labs = ensure_labs(site) if "hub" in wanted_services(site) else {}
        base = site.builder.tag("base")
        backups = Backups(site.state, engine, base)
        backups.ensure_no_restore_is_open()
        state.ensure_folders(base)
        if given:
            configuration.remember(site.state, given)
        secrets = state.ensure_secrets(base)
        state.ensure_host_keys(settings.docker_hosts, base)
        if served:
            api_secrets = state.ensure_api_secrets(base)
        if settings.WODAPIDB and settings.WODTYPE == "backend" and not state.has_secret(API_PASSWORD):
            raise ConfigProblem(
                f"WODAPIDB is on, but the password of {settings.WODAPIDBUSER} is not known.",
                hint=f"Write it into {site.state}/secrets/worker/{API_PASSWORD}, on one line.",
            )
        if settings.WODLDAPSRVNAME and not state.has_secret("ldap-password"):
            raise ConfigProblem(
                f"WODLDAPSRVNAME is set, but the password of {settings.WODLDAPBINDDN} is not known.",
                hint=f"Write it into {site.state}/secrets/worker/ldap-password, on one line.",
            )
        if settings.OPNSENSEIP and not (
            state.has_secret("opnsense-key", "fail2ban") and state.has_secret("opnsense-secret", "fail2ban")
        ):
            raise ConfigProblem(
                "OPNSENSEIP is set, but the key and secret of its API are not known.",
                hint=f"Write them into {site.state}/secrets/fail2ban/opnsense-key and opnsense-secret, one line each.",
            )
        if state.has_secret("fixed-password"):
            click.secho(FIXED, fg="red", err=True)
        fingerprints = state.render(settings)
        in_use = state.ensure_certificate(given_certificate.text, base) if given_certificate else None
        state.ensure_site_routes(proxy.dynamic(settings, in_use), base)
        for name in settings.WODAPPLIANCES:
            ensure_current(site, plain_name(name), folder_of(site, plain_name(name)))
        render_appliances(site)
        deliver_elsewhere(site)
        environment = _compose_environment(site, state, labs) | {"WOD_SECRETS": secrets}
        if served:
            environment["WOD_SECRETS_API"] = api_secrets
        environment |= {f"WOD_CONFIGURATION_{_variable(name)}": mark for name, mark in fingerprints.items()}
        file = state.write_compose_environment(environment)
        render_reach(site)
        if backups.has_databases():
            click.echo("Bringing in the databases of the backup …")
            _compose(site, file, ["up", "--detach", "--wait", "db"])
            backups.bring_in()
        click.echo("Starting the services …")
        _start(site, file)
        state.forget_certificates(in_use)
        state.remember("certificate", f"{given_certificate.until:%Y-%m-%d}" if given_certificate else "")
        disk = _ensure_disk_quotas(site, state, base)
        if settings.CLEAN:
            _take_back_all(site)
    engine.ensure_answers()
    if served:
        update_catalogue(site)
    _say_ready(site, disk)


@click.command()
@click.option("--volumes", is_flag=True, help="Remove the data too: seats, homes, mails that wait.")
@click.option("--yes", is_flag=True, help="Do not ask before data are removed.")
@pass_site
def down(site: Site, volumes: bool, yes: bool) -> None:
    """Stop and remove the services and the seats' servers; data stay unless --volumes is given.

    \b
    Example:
      wodctl down
    """
    file = _environment_file(site)
    if volumes and not yes:
        click.confirm(f"Remove all data of the project {site.project} below {site.state}/data?", abort=True)
    site.engine.remove([container["Id"] for container in site.engine.lent()])
    remove_elsewhere(site)
    # The packet rules stay while the firewall is merely restarted; now there is nobody left to keep apart. Before the
    # networks go, since this would make them again.
    if "firewall" in wanted_services(site):
        _compose(site, file, ["stop", "firewall", "egress"])
        _compose(site, file, ["run", "--rm", "--no-deps", "firewall", "remove"])
    _compose(site, file, ["down", "--remove-orphans", *(["--volumes"] if volumes else [])])
    if volumes:
        base = site.builder.tag("base")
        StateDirectory(site.state, site.root).remove(["data", "run", "secrets", "rendered"], base)
    click.echo(f"Stopped; {'the data are gone' if volumes else f'the data are in {site.state}/data'}.")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_context
def status(context: click.Context, as_json: bool) -> None:
    """Show the services: state, health, memory; what the registration API is still to be told; the disk.

    Ends with 0 only if all services are well and all repositories can be fetched, else with 5.

    \b
    Example:
      wodctl status
    """
    site: Site = context.obj
    services = _all_services(site)
    fetching = Repositories.of(site.root, site.state, site.settings)
    repositories = [fetching.status(kind) for kind in fetching.kinds()]
    disk = StateDirectory(site.state, site.root).remembered("disk")
    well = {service.name for service in services if _is_well(service)}
    debts = connect_as_operator(site.state).debts() if {"db", "worker"} <= well else []
    if as_json:
        document = {
            "url": site.url,
            "services": [vars(service) for service in services],
            "repositories": documents(repositories),
            "disk": disk,
            "owed": [{"updates": n, "problem": problem, "refused": refused} for n, problem, refused in debts],
        }
        click.echo(json.dumps(document, indent=1))
    else:
        _print_services(site, services)
        click.echo(f"Disk: {disk or 'not known yet'}")
        click.secho(f"TLS: {_tls(site)}", fg="red" if _expires_soon(site) else None)
        for one in repositories:
            if one.problem:
                used = f"{one.commit[:12]} stays in use" if one.commit else "nothing is in use"
                click.secho(f"Looked at {one.checked}: {one.problem} {used.capitalize()}.", fg="red")
        for count, problem, refused in debts:
            what = "was refused" if refused else "is still to be told"
            updates = f"{count} update{'' if count == 1 else 's'}"
            click.secho(f"The registration API {what}: {updates}. {problem or ''}".rstrip(), fg="red")
        if StateDirectory(site.state, site.root).has_secret("fixed-password"):
            click.secho(FIXED, fg="red")
    all_is_well = len(well) == len(services) and not any(one.problem for one in repositories)
    context.exit(0 if all_is_well else StackProblem.exit_code)


@click.command()
@click.argument("service", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on as new lines come.")
@click.option(
    "-n", "--tail", default="200", show_default=True, metavar="N", help="Lines from the end, or `all`."
)
@pass_site
def logs(site: Site, service: str | None, follow: bool, tail: str) -> None:
    """Show what the services wrote, or one of them.

    \b
    Example:
      wodctl logs -f worker
    """
    names = [found.name for found in site.engine.services()]
    if service and service not in names:
        raise UsageProblem(
            f"There is no service {service!r}.",
            hint=f"There are: {', '.join(names) or 'none; start with `wodctl up`'}.",
        )
    words = ["logs", f"--tail={tail}", *(["--follow"] if follow else []), *([service] if service else [])]
    _compose(site, _environment_file(site), words, show=True)


def settings_of(options: dict[str, Any]) -> dict[str, Any]:
    """The settings that options of `up` stand for."""
    found: dict[str, Any] = {}
    addresses = {"backend_external": "BEEXT", "frontend": "FE", "frontend_external": "FEEXT",
                 "api": "APIDB", "api_external": "APIDBEXT"}  # fmt: skip
    for option, part in addresses.items():
        for what, value in (options[option] or {}).items():
            found[f"WOD{part}{what}"] = int(value) if what == "PORT" and value.isdigit() else value
    for option, name in (("group", "WODGROUP"), ("user", "WODUSER"), ("post_port", "WODPOSTPORT"),
                         ("sender", "WODSENDER"), ("tls", "WODTLS")):  # fmt: skip
        if options[option] is not None:
            found[name] = options[option]
    if options["kind"] is not None:
        found["WODTYPE"] = options["kind"]
    if len(options["backend"] or ()) == 1:
        found |= {f"WODBE{what}": value for what, value in options["backend"][0].items()}
    elif options["backend"]:
        if options["kind"] != "api-db":
            raise UsageProblem("-b names several backends.", hint="Only `-t api-db` serves more than one.")
        found["WODBACKENDS"] = [":".join(map(str, one.values())) for one in options["backend"]]
    for option, name in (("certificate", "WODTLSCERT"), ("key", "WODTLSKEY")):
        if options[option] is not None:
            found[name] = str(options[option].absolute())
    if options["any_certificate"]:
        found["WODCURLOPT"] = "-k"
    if options["number"] is not None:
        found["WODBENBR"] = options["number"] - 1
    return found


def _ensure_same_site(site: Site, state: StateDirectory) -> None:
    """Refuse a state directory that belongs to another project, and a project that has another state directory."""
    former = state.remembered("project")
    if former not in (None, site.project):
        raise StackProblem(
            f"{site.state} belongs to the project {former!r}, not {site.project!r}.",
            hint=f"Add --project {former}, or use another --state directory.",
        )
    here = str(site.state / "rendered" / "compose.env")
    for container in site.engine.containers():
        if container["Config"]["Labels"].get("com.docker.compose.project.environment_file", here) != here:
            raise StackProblem(
                f"The project {site.project!r} already runs with another state directory.",
                hint="Give this one another --project name, or use the other's --state directory.",
            )


def _ensure_ports_free(site: Site) -> None:
    held = site.engine.published_ports()
    settings = site.settings
    wanted = {"WODBEPORT": settings.WODTYPE != "api-db", "WODPOSTPORT": settings.WODTYPE != "api-db",
              "WODAPIDBPORT": settings.serves_api, "WODHTTPPORT": settings.WODTLS != "off"}  # fmt: skip
    for name, is_wanted in wanted.items():
        port = getattr(settings, name)
        if port in held or not is_wanted or not port:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))  # noqa: S104 - as the engine will
            except OSError as error:
                raise StackProblem(
                    f"Port {port} ({name}) cannot be used: {error.strerror}.",
                    hint=f"End the program that holds it (`ss -ltnp sport = :{port}` names it), or set {name}.",
                ) from None


def _compose_environment(site: Site, state: StateDirectory, labs: dict[str, str]) -> dict[str, str]:
    """The variables of compose/stack.yml, without fingerprints; `labs` are the images of those that there are."""
    settings, builder = site.settings, site.builder
    network = ipaddress.ip_network(_seat_network(site, state))
    # The quarters are for appliances, nobody, seats, and whoever else is started there, which gets the last.
    last_quarter = list(network.subnets(prefixlen_diff=2))[3]
    operator = os.geteuid()
    mark = hashlib.sha256(f"{site.project}".encode()).hexdigest()[:6]
    nothing = str(state.empty_folder())
    images = {f"WOD_IMAGE_{_variable(name)}": builder.tag(name) for name in builder.images()}
    return images | {
        "WOD_STATE": str(site.state),
        "WOD_PROJECT": site.project,
        "WOD_OPERATOR_UID": str(operator) if operator else "",
        "WOD_DOCKER_GID": str(ENGINE_SOCKET.stat().st_gid),
        "WOD_SEAT_BRIDGE": f"wod-{mark}",
        "WOD_SEAT_SUBNET": str(network),
        "WOD_SEAT_RANGE": str(last_quarter),
        "WOD_HUB_ADDRESS": str(network[HUB_HOST]),
        "WOD_PROXY_ADDRESS": str(network[PROXY_HOST]),
        "WOD_BAN_PORTS": ",".join(entry["port"] for entry in published_ports(settings)),
        "WOD_BAN_NEVER": ",".join(network for network in never_banned(settings) if ":" not in network),
        "WOD_CA_BUNDLE": str(builder.ca_bundle().resolve()),
        "WOD_FETCHERS": str(int(bool(fetched(settings)))),
        "WOD_FETCHER": f"{operator}:{os.getegid()}" if operator else f"{OWNER}:{OWNER}",
        "WOD_DOCKER_HOSTS": " ".join(settings.WODAPPLIANCEHOSTS),
        "WOD_GATES_ELSEWHERE": str(int(bool(settings.WODAPPLIANCEHOSTS))),
        "WOD_LABS": " ".join(f"{name}={tag}" for name, tag in sorted(labs.items())),
        "WOD_LAB_KERNELS": " ".join(
            f"{name}={','.join(sorted(lab.kernels))}" for name, lab in sorted(builder.labs.items())
        ),
        "WODBEPORT": str(settings.WODBEPORT),
        "WODPOSTPORT": str(settings.WODPOSTPORT),
        "WODAPIDBPORT": str(settings.WODAPIDBPORT),
        "WODHTTPPORT": str(settings.WODHTTPPORT),
        "WOD_API_PASSWORD": OWN_API_PASSWORD if settings.WODTYPE == "all" else API_PASSWORD,
        "WOD_OWN_SCHEDULER": "yes" if settings.WODTYPE == "all" else "",
        # Fetched ones are not mounted by their link: the engine would follow it once and for all.
        "WODNOBO": nothing if settings.WODNOBOREPO else str(site.workshops.public),
        "WODSCRIPTDIR": settings.WODSCRIPTDIR or nothing,
        "WODPRIVDIR": nothing if settings.WODPRIVREPO else settings.WODPRIVDIR or nothing,
    }


def _seat_network(site: Site, state: StateDirectory) -> str:
    """The seats' network: as configured, else as found free by the first `up`."""
    if site.settings.WODSEATNETWORK != "auto":
        return site.settings.WODSEATNETWORK
    network = state.remembered("seat_network")
    if network is None:
        network = site.engine.free_seat_network(site.settings.WODUSERMAX - site.settings.WODUSERMIN + 1)
        state.remember("seat_network", network)
    return network


def _environment_file(site: Site) -> Path:
    file = site.state / "rendered" / "compose.env"
    if not file.exists():
        raise StackProblem(f"Nothing was started from {site.state} yet.", hint="`wodctl up` starts it.")
    return file


def _compose(site: Site, file: Path, words: list[str], *, show: bool | None = None) -> None:
    """Run Compose. On a terminal it draws what it does; elsewhere its hundred lines would only hide ours."""
    shown = sys.stderr.isatty() if show is None else show
    words = ["--profile", PROFILE, *words]
    site.engine.compose(
        [site.root / "compose" / name for name in compose_files(site)], file, words, show=shown
    )


def compose_files(site: Site) -> list[str]:
    """The files of compose/ that make up this site."""
    settings = site.settings
    if settings.WODTLS == "off":
        return ["stack.yml"]
    redirecting = ["tls-redirect.yml"] if settings.WODHTTPPORT else []
    return ["stack.yml", "tls.yml", *redirecting, *(["tls-api-db.yml"] if settings.serves_api else [])]


def _start(site: Site, file: Path) -> None:
    try:
        wanted = wanted_services(site)
        present = {service.name for service in site.engine.services()}
        unwanted = sorted(present & (set(_stack(site)) - wanted))
        if unwanted:
            _compose(site, file, ["rm", "--stop", "--force", *unwanted])
        words = ["up", "--detach", "--wait", "--wait-timeout", "120", "--remove-orphans"]
        _compose(site, file, [*words, *sorted(wanted)])
    except ProgramFailed as failure:
        ill = [service for service in _all_services(site) if not _is_well(service)]
        names = (
            ", ".join(f"{service.name} ({service.state}, {service.health})" for service in ill)
            or "one of them"
        )
        # On a terminal the operator has seen it already.
        said = failure.output.strip().splitlines()[-1:]
        raise StackProblem(
            f"Not every service became healthy: {names}." + "".join(f" Compose: {line}" for line in said),
            hint=f"`wodctl logs {ill[0].name if ill else ''}` tells why; then run `wodctl up` again.",
        ) from None


def _take_back_all(site: Site) -> None:
    database, homes = connect_as_operator(site.state), site.state / "data" / "students"
    used = [
        seat.number
        for seat in database.seats()
        if seat.state != "free" or (homes / user_name(seat.number)).exists()
    ]
    click.echo(f"CLEAN is on: taking {len(used)} seats back …")
    take_back(database, used)


def _all_services(site: Site) -> list[Service]:
    """Every service that the stack should have; those without a container are `absent`."""
    present = {service.name: service for service in site.engine.services()}
    return [
        present.get(name) or Service(name, "absent", "none", None) for name in sorted(wanted_services(site))
    ]


def wanted_services(site: Site) -> set[str]:
    """The services that this host should have, by what it is to be."""
    services = _stack(site)
    registration = {name for name, service in services.items() if PROFILE in service.get("profiles", [])}
    fetching = {"fetch"} if fetched(site.settings) else set()
    if site.settings.WODTYPE == "api-db":
        # The proxy, and the doorman whom it waits for, for the sake of TLS alone.
        return (
            registration
            | fetching
            | {"db"}
            | ({"proxy", "doorman"} if site.settings.WODTLS != "off" else set())
        )
    elsewhere = {"gate-elsewhere"} if site.settings.docker_hosts else set()
    backend = set(services) - registration - {"fetch", "gate-elsewhere"}
    return backend | elsewhere | fetching | (registration if site.settings.WODTYPE == "all" else set())


def _stack(site: Site) -> dict[str, Any]:
    """The services of compose/stack.yml, by name."""
    services: dict[str, Any] = yaml.safe_load((site.root / "compose" / "stack.yml").read_text())["services"]
    return services


def _images(site: Site) -> list[str]:
    """The images of those services, parents first."""
    wanted = wanted_services(site)
    # Each service has an image of its name, but for those that share another's.
    needed = (
        {"base"}
        | ({"lab", "compiler", "export"} if "hub" in wanted else set())
        | (wanted - {"egress", "gate-elsewhere", "intake", "scheduler"})
    )
    return [name for name in site.builder.images() if name in needed or name == "fetch"]


def _variable(name: str) -> str:
    """A service's or image's name as it is written in the name of a variable."""
    return name.upper().replace("-", "_")


def _is_well(service: Service) -> bool:
    return service.state == "running" and service.health in ("healthy", "none")


def _print_services(site: Site, services: list[Service]) -> None:
    if all(service.state == "absent" for service in services):
        click.echo(f"No service of the project {site.project} exists. `wodctl up` starts them.")
        return
    click.echo(f"{'SERVICE':10} {'STATE':10} {'HEALTH':10} {'MEMORY':>10}")
    for service in services:
        memory = "-" if service.memory_bytes is None else f"{service.memory_bytes / 2**20:.0f} MiB"
        color = None if _is_well(service) else "red"
        click.secho(f"{service.name:10} {service.state:10} {service.health:10} {memory:>10}", fg=color)
    total = sum(service.memory_bytes or 0 for service in services)
    click.echo(f"{'':32} {total / 2**20:6.0f} MiB\n{site.url}")


def _ensure_disk_quotas(site: Site, state: StateDirectory, base_image: str) -> str:
    """Let the kernel keep each seat to WODSEATDISK and WODSEATFILES where it can; says which it is, and remembers."""
    s = site.settings
    size = size_in_bytes(s.WODSEATDISK)
    words = (
        f"{s.WODSEATDISK if size else 'any size'}, {s.WODSEATFILES or 'any number of'} files for each seat"
    )
    reason = state.limit_disk(
        s.UIDBASE + s.WODUSERMIN, s.WODUSERMAX - s.WODUSERMIN + 1, size, s.WODSEATFILES, base_image
    )
    if not reason:
        said = f"{words}, by quotas of the file system"
    elif size or s.WODSEATFILES:
        said = f"{words}, by the watchdog `disk` ({reason})"
    else:
        said = "no limit"
    state.remember("disk", said)
    return said


def _certificate(settings: Settings) -> Certificate | None:
    """The certificate that the operator has handed us, if he has; raises ConfigProblem unless it is good."""
    if settings.WODTLS != "files":
        return None
    return certificate.read(
        Path(settings.WODTLSCERT), Path(settings.WODTLSKEY), proxy.names(settings), datetime.now(timezone.utc)
    )


def _expires_soon(site: Site) -> bool:
    """Whether the operator's certificate is good for less than a fortnight."""
    until = StateDirectory(site.state, site.root).remembered("certificate")
    left = datetime.fromisoformat(until) - datetime.now() if until else timedelta.max
    return site.settings.WODTLS == "files" and left < timedelta(days=14)


def _tls(site: Site) -> str:
    """What becomes of what is sent, in a line."""
    settings = site.settings
    until = StateDirectory(site.state, site.root).remembered("certificate")
    if settings.WODTLS == "files":
        return f"on, with the certificate {settings.WODTLSCERT}, good until {until}; then run `up` with a new one"
    if settings.WODTLS == "acme":
        authority = settings.WODACMEDIRECTORY or "Let's Encrypt"
        return f"on, certificates from {authority}, renewed by the proxy"
    if settings.WODBEEXTPROTO == "https":
        return (
            "ends in front of this host (WODBEEXTPROTO is https); from there to here everything can be read"
        )
    return (
        "off: passwords and work can be read on the way; only for networks that you trust (docs/operators.md)"
    )


def _say_ready(site: Site, disk: str) -> None:
    s = site.settings
    lines = ["", "Ready."]
    if s.WODTYPE != "api-db":
        lines += [
            f"  Participants log in at   {site.url}",
            f"  TLS                      {_tls(site)}",
            f"  Action mails go to       {s.WODUSER}@{s.WODBEEXTFQDN}, port {s.WODPOSTPORT}, from {s.WODSENDER}",
            f"  Seats                    student{s.WODUSERMIN} to student{s.WODUSERMAX}, data in {site.state}/data",
            f"  Disk                     {disk}",
        ]
    if s.WODTYPE != "backend":
        own = s.api_url
        lines += [
            f"  Registration API         {own}/api, described at {own}/api/docs",
            f"  Operators' console       {own}/console, as {s.WODAPIDBADMIN} with the password in",
            f"                           {site.state}/secrets/api-db/admin-password",
        ]
    lines += ["", "Try it:"]
    if s.WODTYPE == "backend":
        lines += [
            "  ./wod action submit CREATE 3 0 -w WKSHP-Welcome101 --wait",
            "  ./wod student password 3        sets and prints a password for student3",
        ]
    else:
        lines += [
            "  ./wod registration add WKSHP-Welcome101 ada@example.net --name 'Ada Lovelace'",
            "  ./wod mail list                 what she is told",
        ]
    click.echo("\n".join(lines))
