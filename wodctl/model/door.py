"""Web pages behind the doorman: what the proxy asks before it lets a browser through to a seat, and to its appliance.

Standard library only: this module is part of the images of hub and worker.
"""

from typing import Any

from wodctl.model.appliance import Definition, base_path, inside_port, outside_name, outside_ports

DOORMAN = "http://doorman:8100"

_BEFORE_ALL_OTHERS = 1_000_000


def question(user: str) -> dict[str, Any]:
    """The middleware that asks the doorman whether the browser may pass to this user's seat."""
    return {
        "forwardAuth": {
            "address": f"{DOORMAN}/{user}",
            "authRequestHeaders": ["Accept", "Cookie", "Sec-Fetch-Mode"],
            # The doorman gives the cookies back without the pass, which is no business of the seat's server.
            "authResponseHeaders": ["Cookie"],
            "preserveLocationHeader": True,
            "trustForwardHeader": False,
            "maxResponseBodySize": 1024,
        }
    }


def excuse(what: str) -> dict[str, Any]:
    """The middleware that shows the doorman's page where nobody answers: a `seat`, its `appliance`, or the `hub`.

    The status stays 502 or 504, for those who are no browsers. The service `doorman` is among the hub's routes.
    https://doc.traefik.io/traefik/reference/routing-configuration/http/middlewares/errorpages/
    """
    return {"errors": {"status": ["502", "504"], "service": "doorman", "query": f"/away/{what}"}}


def appliance_routes(
    definition: Definition, seat: int, first_seat: int, address: str, *, elsewhere: bool = False
) -> dict[str, Any] | None:
    """Traefik's dynamic configuration for the web pages of a seat's appliance; None if it has none.

    `elsewhere`: the address is that of another host, where the ports are those outside.
    """
    user, base = f"student{seat}", base_path(seat)
    door, away = f"door_appliance_{user}", f"away_appliance_{user}"
    routers: dict[str, Any] = {}
    services: dict[str, Any] = {}
    middlewares = {away: excuse("appliance"), door: question(user)}
    for name, port in definition.ports.items():
        if not port.web:
            continue
        page, path = f"appliance_{user}_{name}", f"{base}/{name}"
        passed = [away, door]
        if port.web == "strip":
            middlewares[page] = {"stripPrefix": {"prefixes": [path]}}
            passed.append(page)
        number = (
            outside_ports(definition, seat, first_seat)[outside_name(name, port)]
            if elsewhere
            else inside_port(definition, name, seat, first_seat)
        )
        url = f"http://{address}:{number}"
        services[page] = {"loadBalancer": {"servers": [{"url": url}]}}
        routers[page] = {
            "rule": f"Path(`{path}`) || PathPrefix(`{path}/`)",
            "priority": _BEFORE_ALL_OTHERS,
            "entryPoints": ["web"],
            "service": page,
            "middlewares": passed,
        }
    if not routers:
        return None
    return {"http": {"routers": routers, "services": services, "middlewares": middlewares}}
