"""JupyterHub's configuration: values come from the site's settings, the environment and secret files."""

import hashlib
import json
import os
from pathlib import Path
from urllib.parse import urlsplit

from wod_hub.authenticator import SeatAuthenticator
from wod_hub.routes import LiveRoutes
from wod_hub.spawner import SeatSpawner

from wodctl.model import brand

c = get_config()  # noqa: F821

settings = json.loads(Path("/etc/wod/settings.json").read_text())
project = os.environ["WOD_PROJECT"]


def secret(name: str) -> str:
    """A secret of this service."""
    return (Path("/run/secrets") / name).read_text().strip()


# --- Where things are ---

c.JupyterHub.db_url = "postgresql+psycopg://hub@/hub?host=/run/postgresql"
c.JupyterHub.upgrade_db = True

c.JupyterHub.hub_ip = "0.0.0.0"  # noqa: S104
c.JupyterHub.hub_connect_ip = "hub"

c.JupyterHub.proxy_class = LiveRoutes
c.LiveRoutes.should_start = False
c.LiveRoutes.dynamic_config_file = "/var/lib/traefik/hub.yaml"
c.LiveRoutes.site_certificate = settings["WODTLS"] == "files"
c.LiveRoutes.traefik_entrypoint = "web"
c.LiveRoutes.traefik_api_entrypoint = "api"
c.LiveRoutes.traefik_api_url = "http://proxy:8099"
c.LiveRoutes.traefik_api_username = "hub"
c.LiveRoutes.traefik_api_password = secret("proxy-password")

# With TLS there are names that the certificate is for, and where it ends in front of us the hub cannot see that
# participants came by it; elsewhere it goes by the request, so that every name of this host works.
if settings["WODBEEXTPROTO"] == "https":
    port = "" if settings["WODBEEXTPORT"] == 443 else f":{settings['WODBEEXTPORT']}"
    c.JupyterHub.public_url = f"https://{settings['WODBEEXTFQDN']}{port}/"

# A restart of the hub is nobody's business: servers, routes and open websockets stay.
c.JupyterHub.cleanup_servers = False
c.JupyterHub.cleanup_proxy = False

# --- Who may do what ---

c.JupyterHub.authenticator_class = SeatAuthenticator
c.SeatAuthenticator.first_seat = settings["WODUSERMIN"]
c.SeatAuthenticator.last_seat = settings["WODUSERMAX"]
c.SeatAuthenticator.seat_key = secret("seat-key")
c.SeatAuthenticator.login_days = settings["WODCOOKIEDAYS"]
c.SeatAuthenticator.lease_warning = settings["WODLEASEWARNING"]
c.SeatAuthenticator.trusted_proxies = settings["WODTRUSTEDPROXIES"]
c.SeatAuthenticator.seat_network = os.environ["WOD_SEAT_SUBNET"]
c.SeatAuthenticator.proxy_address = os.environ["WOD_PROXY_ADDRESS"]
c.SeatAuthenticator.refused_log = "/var/log/wod/refused.log"
c.SeatAuthenticator.database = "host=/run/postgresql dbname=wod user=hub"
# All whom the authenticator knows: that is the seats that are ready.
c.SeatAuthenticator.allow_all = True

c.JupyterHub.services = [{"name": "admintk", "api_token": secret("admin-token")}]
c.JupyterHub.load_roles = [
    {
        "name": "jupyteradmin",
        "description": "The worker, which gives seats out and takes them back",
        "scopes": [
            "admin:users",
            "admin:groups",
            "admin:servers",
            "read:roles",
            "tokens",
            "list:users",
            "list:services",
            "read:services",
            "read:hub",
            "access:services",
            "access:servers",
            "proxy",
            "shutdown",
        ],
        "services": ["admintk"],
    },
    {
        "name": "user",
        "description": "A participant: his own server, nothing else",
        "scopes": [
            "servers!user",
            "access:servers!user",
            "read:users:name!user",
            "read:users:groups!user",
            "users:activity!user",
        ],
    },
]

# --- Servers ---

c.JupyterHub.spawner_class = SeatSpawner
c.SeatSpawner.project = project
# The lab of a participant's workshop is known by a group, which the worker alone can put him into.
labs = dict(word.split("=") for word in os.environ["WOD_LABS"].split())
c.SeatSpawner.image = labs["lab"]
c.SeatSpawner.group_overrides = {
    name: {"groups": [f"lab-{name}"], "spawner_override": {"image": image}} for name, image in labs.items()
}
# The image is there before the stack starts; looking for it would cost every start.
c.SeatSpawner.pull_policy = "skip"
c.SeatSpawner.title = settings["BRANDING"]
c.SeatSpawner.homes = f"{os.environ['WOD_STATE']}/data/students"
c.SeatSpawner.uid_base = settings["UIDBASE"]
c.SeatSpawner.gid_base = settings["GIDBASE"]
c.SeatSpawner.first_seat = settings["WODUSERMIN"]
c.SeatSpawner.last_seat = settings["WODUSERMAX"]
c.SeatSpawner.network = os.environ["WOD_SEAT_SUBNET"]
c.SeatSpawner.definitions = Path("/etc/wod/appliances")
c.SeatSpawner.mem_limit = settings["WODSEATMEMORY"]
c.SeatSpawner.cpu_limit = settings["WODSEATCPUS"]
c.SeatSpawner.pids_limit = settings["WODSEATPIDS"]
c.SeatSpawner.starts = settings["WODSEATSTARTS"]
c.SeatSpawner.use_internal_ip = True
c.SeatSpawner.remove = True
c.SeatSpawner.default_url = "/lab"
# Seconds until a server that died is noticed: its participant looks at the doorman's page meanwhile.
c.SeatSpawner.poll_interval = 10
# Starts queue (WODSEATSTARTS): these count the waiting too. The API answers when a server has started or
# stopped, and not earlier.
c.SeatSpawner.start_timeout = 900
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 900, "slow_stop_timeout": 120}
c.JupyterHub.concurrent_spawn_limit = 0
c.JupyterHub.allow_named_servers = False
c.JupyterHub.redirect_to_server = True
c.JupyterHub.shutdown_on_logout = True
# A participant who comes back to a server that was stopped gets it without asking.
c.JupyterHub.implicit_spawn_seconds = 1

# --- Cookies and pages ---

# It has to be 32 bytes, whatever the file holds.
c.JupyterHub.cookie_secret = hashlib.sha256(secret("cookie-secret").encode()).digest()
c.JupyterHub.cookie_max_age_days = settings["WODCOOKIEDAYS"]

# The logo's address, or, of a file in the private overlay, the picture itself.
logo = settings["logo"]
logo_origin = "{0.scheme}://{0.netloc}".format(urlsplit(logo)) if logo.startswith("http") else ""
style = brand.style(settings["BRANDINGCOLOR"])
c.JupyterHub.tornado_settings |= {
    "cookie_options": {"expires_days": settings["WODCOOKIEDAYS"]},
    "headers": {
        "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; "
        f"style-src 'self' {brand.source(style)}; img-src 'self' data: {logo_origin}; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
    },
    # The other cookies are so by themselves.
    "xsrf_cookie_kwargs": {"secure": settings["WODBEEXTPROTO"] == "https"},
}
c.JupyterHub.template_paths = ["/opt/wod/share/wod/templates"]
c.JupyterHub.template_vars = {
    "branding": settings["BRANDING"],
    "branding_wod": settings["BRANDINGWOD"],
    "branding_url": settings["BRANDINGURL"],
    "branding_logo": logo,
    "branding_icon": logo or brand.icon(settings["BRANDINGCOLOR"]),
    "branding_style": style,
}
