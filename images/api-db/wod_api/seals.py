"""Passwords of seats, and letters that hold them, are in the database only encrypted, with a key that is not there."""

from cryptography.fernet import Fernet, InvalidToken

from wod_api.settings import secret


def seal(text: str) -> bytes:
    """The text, encrypted."""
    return _key().encrypt(text.encode())


def unseal(sealed: bytes) -> str | None:
    """The text again; None if it was encrypted with another key."""
    try:
        return _key().decrypt(sealed).decode()
    except InvalidToken:
        return None


def _key() -> Fernet:
    return Fernet(secret("seal-key"))
