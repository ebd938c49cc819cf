"""Keys and logins taken out of words that leave the process: errors, the ledger, logs, cache keys."""

import os
import re
from urllib.parse import unquote, urlsplit

_IN_URL = re.compile(r"(//)[^/\s]+(?=@)|([?&][\w.-]*(?:key|token|secret|password|signature|sig)=)[^&\s'\"]+", re.IGNORECASE)
_BEARER = re.compile(r"(?<=\bBearer )(?=\S*\d)[\w.~+/=-]{6,}", re.IGNORECASE)
"""With a digit in it: "a Bearer token" is a word."""
_SECRET_NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIALS")
_SHORTEST = 6
"""Characters: what is shorter is a word like "on", and would be taken out of every text."""


def without_secrets(text: str) -> str:
    """The text without any API key of the environment and without what stands before the @ or in a key parameter of an address.

    >>> without_secrets("cannot reach http://me:pass@host/v1?key=abc&x=1")
    'cannot reach http://***@host/v1?key=***&x=1'
    >>> without_secrets("bad header Authorization: Bearer abc-123")
    'bad header Authorization: Bearer ***'
    """
    # What a .env file of Windows leaves around a key is not sent, so it does not come back either.
    secrets = {value.strip().strip("'\"").strip() for name, value in os.environ.items() if name.upper().endswith(_SECRET_NAMES)}
    secrets |= {entry.partition("=")[2] for name, value in os.environ.items() if name.upper().endswith("_KEYS") for entry in value.split()}
    secrets |= _password(os.environ.get("OVERTAKE_STORE", ""))
    for value in sorted(secrets, key=len, reverse=True):  # one may be part of another
        if len(value) >= _SHORTEST:
            text = text.replace(value, "***")
    return _BEARER.sub("***", without_login(text))


def _password(address: str) -> set[str]:
    """The password in an address, as it stands there and as it is sent."""
    try:
        password = urlsplit(address.strip()).password or ""
    except ValueError:
        return set()
    return {password, unquote(password)}


def without_login(address: str) -> str:
    """An address without its login and its key parameters, whatever the environment holds: what a cache key may be made of.

    >>> without_login("http://me:pass@host/v1?key=abc")
    'http://***@host/v1?key=***'
    """
    return _IN_URL.sub(lambda match: f"{match[1] or match[2]}***", address)
