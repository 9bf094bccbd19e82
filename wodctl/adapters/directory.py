"""An LDAP directory in which each seat has an entry, whose password opens the appliances that ask there.

Protocol: StartTLS (RFC 4511, 4.14), or TLS from the first byte on port 636; a simple bind; the extended operation for
changing passwords (RFC 3062), so that it is the directory that hashes them, as it is set up to.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wodctl.errors import ActionFailed, Unavailable

LDAPS_PORT = 636
"""The port on which TLS begins at once; on all others it is asked for before anything else is said."""

CONNECT_TIMEOUT = 5
ANSWER_TIMEOUT = 10
"""Seconds."""


class Directory:
    """The directory on that host and port, in which the seats are `uid=<prefix><n>,ou=People,<base>`.

    `base` is a name such as dc=example,dc=org, or the domain example.org for it. `password` is that of `bind`, the
    entry which may change the others. The server must have a certificate from one of the `authorities`.
    """

    def __init__(
        self, host: str, port: int, base: str, prefix: str, bind: str, password: str, authorities: Path
    ) -> None:
        self._uri = f"{'ldaps' if port == LDAPS_PORT else 'ldap'}://{host}:{port}"
        self._base = base if "=" in base else ",".join(f"dc={part}" for part in base.split("."))
        self._prefix = prefix
        self._bind = bind
        self._password = password
        self._authorities = authorities

    def set_password(self, seat: int, password: str) -> None:
        """The seat's entry opens with this password and no other.

        Raises Unavailable where another attempt may succeed, else ActionFailed.
        """
        import ldap  # Debian's, in the worker's image only

        entry = f"uid={self._prefix}{seat},ou=People,{self._base}"
        with self._connection() as connection:
            try:
                connection.passwd_s(entry, None, password)
            except ldap.NO_SUCH_OBJECT:
                raise ActionFailed(
                    f"The directory {self._uri} has no entry {entry}.",
                    hint="Make one for each seat there, or correct WODLDAPDMN or WODLDAPSETUPUSER.",
                ) from None

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        """A connection that is bound, closed afterwards; what LDAP says of trouble in the operator's words."""
        import ldap

        try:
            connection = ldap.initialize(self._uri)
            connection.set_option(ldap.OPT_NETWORK_TIMEOUT, CONNECT_TIMEOUT)
            connection.set_option(ldap.OPT_TIMEOUT, ANSWER_TIMEOUT)
            connection.set_option(ldap.OPT_REFERRALS, 0)
            connection.set_option(ldap.OPT_X_TLS_CACERTFILE, str(self._authorities))
            connection.set_option(ldap.OPT_X_TLS_REQUIRE_CERT, ldap.OPT_X_TLS_DEMAND)
            connection.set_option(ldap.OPT_X_TLS_NEWCTX, 0)
            try:
                if not self._uri.startswith("ldaps:"):
                    connection.start_tls_s()
                connection.simple_bind_s(self._bind, self._password)
                yield connection
            finally:
                connection.unbind_s()
        except ldap.INVALID_CREDENTIALS:
            raise Unavailable(
                f"The directory {self._uri} refuses the password of {self._bind}.",
                hint="Correct WODLDAPBINDDN, or the password in secrets/worker/ldap-password.",
            ) from None
        except (ldap.CONNECT_ERROR, ldap.PROTOCOL_ERROR) as error:
            raise Unavailable(
                f"The directory {self._uri} gives no TLS that we trust: {_said(error)}.",
                hint="Its certificate must be for that name and from an authority in WODCABUNDLE.",
            ) from None
        except (ldap.SERVER_DOWN, ldap.TIMEOUT, ldap.BUSY, ldap.UNAVAILABLE) as error:
            raise Unavailable(
                f"The directory {self._uri} does not answer: {_said(error)}.",
                hint="Check WODLDAPSRVNAME and WODLDAPPORT, and that its certificate is from WODCABUNDLE.",
            ) from None
        except ldap.LDAPError as error:
            raise ActionFailed(f"The directory {self._uri} refuses: {_said(error)}.") from None


def _said(error: Exception) -> str:
    """What the library tells of an error, without the words that we sent."""
    told = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    return str(told.get("info") or told.get("desc") or type(error).__name__).strip().rstrip(".")
