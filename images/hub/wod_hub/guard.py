"""The doorman before the seats: which routes the proxy serves only after asking him."""

import re
from typing import Any

from wodctl.model.door import question

_SEAT_ROUTE = re.compile(r"/user/([a-z0-9]+)/")


def guarded(routes: dict[str, Any]) -> dict[str, Any]:
    """The same routes with the doorman before every one but the hub's own.

    The doorman learns the seat from the route: whatever way an address is written, it is checked for the very seat
    that Traefik sends it to. Raises ValueError for a route that leads neither to the hub nor to a seat.
    """
    http = routes.get("http", {})
    routers = dict(http.get("routers", {}))
    middlewares = {
        name: settings
        for name, settings in http.get("middlewares", {}).items()
        if not name.startswith("door_")
    }
    for name, route in routes.get("jupyterhub", {}).get("routes", {}).items():
        if route["routespec"] == "/":
            continue
        seat = _SEAT_ROUTE.fullmatch(route["routespec"])
        if seat is None:
            raise ValueError(f"The route {route['routespec']} leads to no seat.")
        middlewares[f"door_{seat[1]}"] = question(seat[1])
        routers[name] = routers[name] | {"middlewares": [f"door_{seat[1]}"]}
    if not routers:
        return routes
    return routes | {"http": http | {"routers": routers, "middlewares": middlewares}}
