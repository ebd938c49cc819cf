"""Why one attempt at a remote call brought no answer, in kinds that can be counted, retried or given up."""

import asyncio
import os
import re
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

_RETRIED = {408, 409, 425, 429, 500, 502, 503, 504, *range(520, 525), 529}
_IN_URL = re.compile(r"(//)[^/\s]+(?=@)|([?&][\w.-]*(?:key|token|secret|password|signature|sig)=)[^&\s'\"]+", re.IGNORECASE)


class Fault(Exception):
    """One attempt that failed. The words go into reasons and the ledger, without any key in them."""

    def __init__(self, kind: str, words: str, *, again: bool = True, wait: float | None = None) -> None:
        super().__init__(without_secrets(words)[:400])
        self.kind = kind
        """timeout, connection, http_<status>, malformed, error_inside, too_large, unusable, deadline, budget, circuit or bug."""
        self.again = again
        """Asking again may help."""
        self.wait = wait
        """Seconds that the service asks to wait before that (Retry-After)."""
        self.paid: dict[str, Any] = {}
        """"usage" and "usd" of an answer that was no use and is billed all the same."""

    @property
    def outage(self) -> bool:
        """The service is disturbed; False where it answered and would answer the same again."""
        return self.kind == "circuit" or (self.again and self.kind not in ("unusable", "malformed"))


class Unusable(Fault):
    """A sound answer that holds nothing to go on with: an empty text, a cut-off one, an unreadable verdict.

    `again`: another answer to the same request may be better; it is asked for at once.
    """

    def __init__(self, words: str, paid: Mapping[str, Any] | None = None, *, again: bool = False) -> None:
        super().__init__("unusable", words, again=again)
        self.paid = dict(paid or {})


def malformed(words: str, answer: object) -> Fault:
    """An answer under HTTP 200 that is not of the agreed form: it may be a proxy's page or half an answer, so it is asked for again."""
    return Fault("malformed", f"{words}: {_quoted(str(answer), 200)}")


def error_inside(error: object) -> Fault:
    """An error that the service reports under HTTP 200; one that means "this request is wrong" is not asked for again.

    >>> error_inside({"code": 401, "message": "no such key"}).again, error_inside("database locked").again
    (False, True)
    """
    code = str(error.get("code", error.get("status", ""))) if isinstance(error, dict) else ""
    refused = re.fullmatch("4[0-9]{2}", code) and int(code) not in _RETRIED
    return Fault("error_inside", f"the service reports an error inside its answer: {_quoted(str(error), 200)}", again=not refused)


def of_status(status: int, text: str, headers: Mapping[str, str]) -> Fault:
    """The fault of an HTTP status above 299, in the service's own words."""
    if status < 400:
        target = headers.get("location", "nowhere")
        return Fault(f"http_{status}", f"HTTP {status}: redirects to {target}; set that address itself if it is right", again=False)
    wait = _asked_for(headers.get("retry-after"))
    return Fault(f"http_{status}", f"HTTP {status}: {_quoted(text, 300)}", again=status in _RETRIED, wait=wait)


def of_error(error: Exception, seconds: float) -> Fault:
    """The fault that an exception of a client library, or of our own code, stands for."""
    if isinstance(error, Fault):
        return error
    if isinstance(error, asyncio.TimeoutError):
        return Fault("timeout", str(error) or f"no answer within {seconds:g} s")
    import aiohttp

    words = f"{type(error).__name__}: {error}"
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError | aiohttp.ClientConnectorCertificateError):
        return Fault("connection", words, again=False)
    if isinstance(error, aiohttp.ClientError | OSError):
        return Fault("connection", words)
    return Fault("bug", words, again=False)


def _asked_for(header: str | None) -> float | None:
    """Seconds that Retry-After asks to wait: a number or a date; None when there is no readable one.

    >>> _asked_for("1.5"), _asked_for("soon"), _asked_for(None), _asked_for("Thu, 01 Jan 1970 00:00:00 GMT")
    (1.5, None, None, 0.0)
    """
    if not header:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", header):
        return float(header)
    try:
        date = parsedate_to_datetime(header)
        return max(date.replace(tzinfo=date.tzinfo or UTC).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def without_secrets(text: str) -> str:
    """The text without any API key of the environment and without what stands before the @ or in a key parameter of an address.

    >>> without_secrets("cannot reach http://me:pass@host/v1?key=abc&x=1")
    'cannot reach http://***@host/v1?key=***&x=1'
    """
    secrets = [value for name, value in os.environ.items() if name.endswith(("API_KEY", "TOKEN", "SECRET", "PASSWORD")) and len(value) > 5]
    for value in sorted(secrets, key=len, reverse=True):  # one may be part of another
        text = text.replace(value, "***")
    return _IN_URL.sub(lambda found: f"{found[1] or found[2]}***", text)


def _quoted(text: str, most: int) -> str:
    """The beginning of what a service said; cut after the secrets are out, or half of one might stay."""
    return without_secrets(text[: 20 * most])[:most]
