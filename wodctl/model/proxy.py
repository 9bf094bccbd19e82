"""Traefik's configuration, as far as it follows from the site: TLS, the way to the registration API.

The static part is read when the proxy starts; the other one is a file beside the routes, and new ones are taken up
without ending a connection. Protocol: https://doc.traefik.io/traefik/reference/
"""

from typing import Any

from wodctl.model.settings import Settings

CERTIFICATES = "/run/certificates"
"""Where the proxy finds the site's own certificates."""

HSTS_SECONDS = 31536000
"""For a year browsers ask this host by HTTPS alone."""

# Mozilla's intermediate profile, https://wiki.mozilla.org/Security/Server_Side_TLS; TLS 1.3 has none to choose from.
_CIPHERS = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
]


def names(settings: Settings) -> list[str]:
    """The names that browsers know this host by, and that its certificate must have."""
    found = [settings.WODBEEXTFQDN] if settings.WODTYPE != "api-db" else []
    return list(dict.fromkeys(found + ([settings.WODAPIDBEXTFQDN] if settings.serves_api else [])))


def static(base: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """The configuration that the proxy starts with: `base`, which is conf/traefik/traefik.yml, and what WODTLS adds,
    and WODTRUSTEDPROXIES."""
    entries = dict(base["entryPoints"])
    if settings.WODTRUSTEDPROXIES:
        entries["web"] = entries["web"] | {"forwardedHeaders": {"trustedIPs": settings.WODTRUSTEDPROXIES}}
    if settings.WODTLS == "off":
        return base | {"entryPoints": entries}
    tls: dict[str, Any] = {"options": "default"}
    more: dict[str, Any] = {}
    if settings.WODTLS == "acme":
        first, *others = names(settings)
        tls |= {"certResolver": "acme", "domains": [{"main": first, "sans": others}]}
        more["certificatesResolvers"] = {
            "acme": {
                "acme": {
                    "storage": "/var/lib/acme/acme.json",
                    "httpChallenge": {"entryPoint": "plain"},
                    "caCertificates": ["/etc/wod/ca.crt"],
                    "caSystemCertPool": True,
                }
                | ({"caServer": settings.WODACMEDIRECTORY} if settings.WODACMEDIRECTORY else {})
                | ({"email": settings.WODACMEMAIL} if settings.WODACMEMAIL else {})
            }
        }
    web = entries["web"]
    over_tls = web["http"] | {"tls": tls, "middlewares": ["hsts@file"]}
    entries["web"] = web | {"http": over_tls}
    if settings.serves_api:
        entries["registration"] = web | {"address": ":8021", "http": over_tls}
    if settings.WODHTTPPORT:
        port = settings.WODBEEXTPORT if settings.WODTYPE != "api-db" else settings.WODAPIDBEXTPORT
        to = {"to": f":{port}", "scheme": "https", "permanent": True}
        entries["plain"] = web | {
            "address": ":8080",
            "http": web["http"] | {"redirections": {"entryPoint": to}},
        }
    return base | {"entryPoints": entries} | more


def dynamic(settings: Settings, certificate: str | None) -> dict[str, Any]:
    """What may change while the proxy runs; `certificate` is the name of a file with certificate and key."""
    if settings.WODTLS == "off":
        return {}
    http: dict[str, Any] = {"middlewares": {"hsts": {"headers": {"stsSeconds": HSTS_SECONDS}}}}
    if settings.serves_api:
        http["services"] = {"registration": {"loadBalancer": {"servers": [{"url": "http://api-db:8021"}]}}}
        http["routers"] = {
            "registration": {
                "rule": "PathPrefix(`/`)",
                "entryPoints": ["registration"],
                "service": "registration",
            }
        }
    tls: dict[str, Any] = {"options": {"default": {"minVersion": "VersionTLS12", "cipherSuites": _CIPHERS}}}
    if certificate:
        file = f"{CERTIFICATES}/{certificate}"
        # Also for whoever does not say which name he means.
        tls["stores"] = {"default": {"defaultCertificate": {"certFile": file, "keyFile": file}}}
    return {"http": http, "tls": tls}
