"""The doorman: which routes the proxy serves only after asking him, and what he says where nobody answers."""

import re
from typing import Any

from wodctl.model.door import DOORMAN, excuse, question

INSIDE = "inside"
"""The proxy's entry for the worker, as conf/traefik/traefik.yml names it."""

_SEAT_ROUTE = re.compile(r"/user/([a-z0-9]+)/")


def guarded(routes: dict[str, Any]) -> dict[str, Any]:
    """The same routes with the doorman before every one but the hub's own, and his page where nobody answers.

    Routes to seats are there twice: the worker, beside us, asks by plain HTTP at an entry of the proxy that is not open
    to others.
    The doorman learns the seat from the route: whatever way an address is written, it is checked for the very seat
    that Traefik sends it to. Raises ValueError for a route that leads neither to the hub nor to a seat.
    """
    http = routes.get("http", {})
    routers = {
        name: router for name, router in http.get("routers", {}).items() if not name.startswith("inside_")
    }
    middlewares = {
        name: settings
        for name, settings in http.get("middlewares", {}).items()
        if not name.startswith("door_")
    }
    middlewares |= {"away_hub": excuse("hub"), "away_seat": excuse("seat")}
    for name, route in routes.get("jupyterhub", {}).get("routes", {}).items():
        if route["routespec"] == "/":
            routers[name] = routers[name] | {"middlewares": ["away_hub"]}
            continue
        seat = _SEAT_ROUTE.fullmatch(route["routespec"])
        if seat is None:
            raise ValueError(f"The route {route['routespec']} leads to no seat.")
        middlewares[f"door_{seat[1]}"] = question(seat[1])
        routers[name] = routers[name] | {"middlewares": ["away_seat", f"door_{seat[1]}"]}
        routers[f"inside_{seat[1]}"] = routers[name] | {"entryPoints": [INSIDE]}
    if not routers:
        return routes
    services = http.get("services", {}) | {"doorman": {"loadBalancer": {"servers": [{"url": DOORMAN}]}}}
    return routes | {"http": http | {"routers": routers, "services": services, "middlewares": middlewares}}
