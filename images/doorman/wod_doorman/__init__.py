"""The doorman of the seats: Traefik asks it whether a request may pass to a seat's server."""
