"""User and password that stand in an address: taken out, so that no file, message, log or process
list shows them."""

from typing import NamedTuple
from urllib.parse import unquote

__all__ = ["SignIn", "shown", "sign_in"]


class SignIn(NamedTuple):
    """An address without credentials, and what stood in it; "" where nothing did."""

    address: str
    user: str
    password: str


def sign_in(address: str) -> SignIn:
    """What an address such as https://user:p%40ss@host:9200/path holds."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "", address
    authority, slash, path = rest.partition("/")
    known, _, host = authority.rpartition("@")
    user, _, password = known.partition(":")
    return SignIn(f"{scheme}{separator}{host}{slash}{path}", unquote(user), unquote(password))


def shown(place: str) -> str:
    """A URL or a path as messages show it."""
    # A path may have an "@" in the name of a folder.
    return sign_in(place).address if "://" in place else place
