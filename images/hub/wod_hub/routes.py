"""Routes: the file that Traefik watches, and the certainty that it has read it."""

import asyncio
import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bcrypt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from jupyterhub_traefik_proxy.fileprovider import TraefikFileProviderProxy
from traitlets import Bool, default, observe

from wod_hub.guard import guarded

STEP = 0.01
"""Seconds between two looks at whether a route is live."""


class RoutesFile:
    """The dynamic configuration on disk: JSON, which Traefik reads as YAML and Python writes fastest."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def load(self) -> dict[str, Any]:
        """What was written last, without a certificate. Raises FileNotFoundError before the first time."""
        # Each hub makes one, or none where the site has its own: that of a former one would go before it.
        return {name: part for name, part in json.loads(self.path.read_text()).items() if name != "tls"}

    def atomic_dump(self, routes: dict[str, Any]) -> None:
        """Replace the file in one step, so that Traefik never sees half of it."""
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(guarded(routes)))
        # The proxy is another user, whose group the folder hands on. For nobody else: there is a key in it.
        new.chmod(0o640)
        os.replace(new, self.path)


def stopgap_certificate() -> dict[str, str]:
    """A self-signed certificate that speaks for nobody, as Traefik takes it: two texts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "no certificate")])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    return {
        "certFile": certificate.public_bytes(serialization.Encoding.PEM).decode("ascii"),
        "keyFile": key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode("ascii"),
    }


class LiveRoutes(TraefikFileProviderProxy):
    """A Traefik that is a service of its own: a route is added when it is served, and survives the hub."""

    @observe("dynamic_config_file")
    def _set_dynamic_config_file(self, change: dict[str, Any]) -> None:
        self.dynamic_config_handler = RoutesFile(change["new"])

    @default("traefik_api_hashed_password")
    def _cheap_hash(self) -> str:
        # The password is 256 random bits, which no slow hash makes safer; Traefik computes this one for every
        # question we ask it, and with bcrypt's usual cost each would take a quarter of a second.
        return bcrypt.hashpw(self.traefik_api_password.encode(), bcrypt.gensalt(rounds=4)).decode("ascii")

    site_certificate = Bool(help="Whether the proxy has a certificate of the site's for all names.").tag(
        config=True
    )

    @default("extra_dynamic_config")
    def _default_certificate(self) -> dict[str, Any]:
        if self.site_certificate:
            return {}
        # Unless it is given one, Traefik makes an RSA key for a certificate of last resort at every change of
        # its configuration: a tenth of a second of processor time for every server that starts.
        return {"tls": {"stores": {"default": {"defaultCertificate": stopgap_certificate()}}}}

    async def _wait_for_route(self, routespec: str) -> None:
        """Return when Traefik serves the route. Raises TimeoutError after check_route_timeout."""
        deadline = time.monotonic() + self.check_route_timeout
        # Router and service of a route come in one file: Traefik takes both or none.
        while not await self._check_for_traefik_service(routespec, "router"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"The proxy does not serve {routespec}.")
            await asyncio.sleep(STEP)
