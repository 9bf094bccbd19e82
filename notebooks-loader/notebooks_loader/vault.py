"""Values that are sealed with Ansible Vault (formats 1.1 and 1.2, AES256), opened with the site's vault password.

In YAML such a value is tagged `!vault`. From there on it travels as Ansible writes it in JSON, a map with the
one key `__ansible_vault`, until somebody who has the password needs it: the settings that services read hold
the seal only.
"""

import binascii
import functools
import hashlib
import hmac
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from wodctl.errors import ContentProblem

SEALED = "__ansible_vault"
"""Key of the map that stands for a sealed value."""

MOST_VALUES = 100_000
"""Values that all variables of a delivery may have together, each counted as often as an alias repeats it."""

_HEADERS = ("$ANSIBLE_VAULT;1.1;AES256", "$ANSIBLE_VAULT;1.2;AES256;")
_ITERATIONS = 10_000
_KEY, _BLOCK = 32, 16


class Loader(yaml.SafeLoader):
    """YAML as `safe_load` reads it, and `!vault` values as sealed ones."""


def _sealed(loader: Loader, node: yaml.Node) -> dict[str, str]:
    if not isinstance(node, yaml.ScalarNode):
        raise yaml.constructor.ConstructorError(None, None, "expected a text after !vault", node.start_mark)
    return {SEALED: str(loader.construct_scalar(node))}


Loader.add_constructor("!vault", _sealed)
Loader.add_constructor("!vault-encrypted", _sealed)


class Secret(str):
    """A text that was sealed. It is a text like any other, and tells where not to show it."""

    __slots__ = ()

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


class CannotOpen(Exception):
    """A sealed text cannot be opened; the text says why, and nothing of what is sealed."""


def is_sealed(text: str) -> bool:
    """Whether that text is sealed."""
    return text.lstrip().startswith("$ANSIBLE_VAULT;")


def password_from(files: Iterable[Path]) -> str:
    """The vault password: what the first of these files holds that is there and not empty; else nothing.

    Raises ContentProblem for a file that cannot be read.
    """
    for file in files:
        try:
            password = file.read_text(encoding="utf-8").strip()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise ContentProblem(f"The vault password in {file} cannot be read: {reason}.") from None
        if password:
            return password
    return ""


@functools.lru_cache(maxsize=1024)
def opened(text: str, password: str) -> str:
    """What is sealed in `text`. Raises CannotOpen."""
    # Here, because a site without sealed values need not have its memory taken.
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    if not password:
        raise CannotOpen("no vault password is known")
    head, *lines = text.split()
    if not head.startswith(_HEADERS):
        raise CannotOpen(f"it begins with {head[:40]!a}, expected {_HEADERS[0]}")
    try:
        salt, mac, sealed = (
            binascii.unhexlify(part) for part in binascii.unhexlify("".join(lines)).split(b"\n", 2)
        )
    except ValueError:
        raise CannotOpen("it is damaged") from None
    keys = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS, 2 * _KEY + _BLOCK)
    if not hmac.compare_digest(hmac.digest(keys[_KEY : 2 * _KEY], sealed, "sha256"), mac):
        raise CannotOpen("the vault password does not fit")
    decryptor = Cipher(algorithms.AES(keys[:_KEY]), modes.CTR(keys[2 * _KEY :])).decryptor()
    padded = decryptor.update(sealed) + decryptor.finalize()
    try:
        return padded[: -padded[-1]].decode("utf-8")
    except (IndexError, UnicodeDecodeError):
        raise CannotOpen("what is sealed is no text") from None


def open_all(
    variables: Mapping[str, Any], password: str, *, where: str, secret: bool = False
) -> dict[str, Any]:
    """The variables with every sealed value opened, at any depth; `where` is how messages name their origin.

    What was sealed is a Secret from then on; `secret` tells that all texts were. Raises ContentProblem naming the
    key for a value that cannot be opened.
    """
    left = MOST_VALUES

    def walk(value: Any, name: str) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise ContentProblem(f"{where}: more than {MOST_VALUES} values: expected some variables.")
        if isinstance(value, Mapping):
            if set(value) == {SEALED}:
                return _open_named(str(value[SEALED]), password, f"{where}: {name}")
            return {key: walk(item, f"{name}.{key}") for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [walk(item, name) for item in value]
        return Secret(value) if secret and isinstance(value, str) else value

    return {name: walk(value, name) for name, value in variables.items()}


def secrets_in(variables: Any) -> Iterator[str]:
    """Every opened text in variables, at any depth."""
    if isinstance(variables, Secret):
        yield str(variables)
    elif isinstance(variables, Mapping):
        for value in variables.values():
            yield from secrets_in(value)
    elif isinstance(variables, list):
        for value in variables:
            yield from secrets_in(value)


def _open_named(text: str, password: str, name: str) -> str:
    try:
        return Secret(opened(text, password))
    except CannotOpen as problem:
        raise ContentProblem(f"{name} is sealed and cannot be opened: {problem}.", hint=_HINT) from None


_HINT = (
    "The vault's password goes into the file secrets/vault-password of the state directory, or is "
    "ansible/vault_secret of the private repository."
)
