"""Faults: why one attempt at a remote call brought no answer, in kinds that can be counted, retried or given up."""

import asyncio
import json
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from overtake.redaction import without_secrets

_FAR_SECONDS = 600.0
_NO_MONEY_CODE = re.compile(
    r"insufficient[ _-]?(user[ _-]?)?(quota|balance|funds?|credits?)|exceeded[ _-]current[ _-]quota|billing_(hard_limit|not_active|limit)"
    r"|(account|user)[ _-]?(deactivated|suspended|overdue|arrears)|\barrear(s|age)\b|payment_required|access_terminated"
    r"|(quota|credits?)[ _-](exhausted|used_up)|out_of_(quota|credits?)",
    re.IGNORECASE,
)
_NO_MONEY = re.compile(
    r"exceeded your current quota|\b(credit|balance|quota|fund)s? (is|are|has|have)( been)? "
    r"(too low|not enough|used up|exhausted|depleted|0\b)"
    r"|(not enough|run out of|ran out of|out of|no( more| remaining)?|used (up )?all( of)?) (your |the |available )?"
    r"(quota|credits?|balance|funds)"
    r"|(check|see|upgrade) your (plan|billing)|(spend|usage|billing)[a-z ]* limit[a-z ]* reached"
    r"|reached your (spend|usage|billing|monthly)"
    r"|\btop up\b|\brecharge\b|余额(已)?(不足|用完|用尽|耗尽)|欠费|充值|续费"
    r"|(额度|配额|套餐|点数|积分|用量)[^，。；]{0,8}(用完|用尽|耗尽|不足|已满|到期|过期)",
    re.IGNORECASE,
)
_COMES_BACK = re.compile(
    r"(retry|try again|please wait|resets?|available again)[a-z ]{0,24}\b(in|after|at)\b|retry.?(delay|after)"
    r"|per[ -](second|minute|min|hour|day)\b|rate.?limit|\b[rt]p[ms]\b|稍后|秒后|分钟后|频率|每(秒|分钟|分|小时|天|日)|限流|并发",
    re.IGNORECASE,
)
_RETRIED = {408, 409, 425, 429, 500, 502, 503, 504, *range(520, 525), 529}


class Fault(Exception):
    """One attempt that failed. The words go into reasons and the ledger, without any key in them."""

    def __init__(self, kind: str, message: str, *, again: bool = True, wait: float | None = None) -> None:
        super().__init__(without_secrets(message)[:400])
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

    def __init__(self, message: str, paid: Mapping[str, Any] | None = None, *, again: bool = False) -> None:
        super().__init__("unusable", message, again=again)
        self.paid = dict(paid or {})


def broken_off(finish: str, paid: Mapping[str, Any]) -> Fault:
    """An answer that the service broke off for a shortage or an error of its own: it is asked for again."""
    fault = Fault("error_inside", f"the service broke its answer off with finish reason {_quoted(repr(finish), 100)}")
    fault.paid = dict(paid)
    return fault


def malformed(message: str, answer: object) -> Fault:
    """An answer under HTTP 200 that is not of the agreed form: it may be a proxy's page or half an answer, so it is asked for again."""
    return Fault("malformed", f"{message}: {_quoted(str(answer), 200)}")


def error_inside(error: object) -> Fault:
    """An error that the service reports under HTTP 200; one that means "this request is wrong" is not asked for again.

    >>> error_inside({"code": 401, "message": "no such key"}).again, error_inside("database locked").again
    (False, True)
    """
    refused = any(re.fullmatch("4[0-9]{2}", code) and int(code) not in _RETRIED for code in _codes(error))
    message = f"the service reports an error inside its answer: {_quoted(str(error), 200)}"
    shown = {name: value for name, value in error.items() if name != "data"} if isinstance(error, Mapping) else error
    return Fault("error_inside", message, again=not (refused or quota_is_used_up(str(shown))))


def _codes(error: object, depth: int = 3) -> Iterator[str]:
    """What stands under names such as code and status in an error and its parts."""
    if isinstance(error, Mapping) and depth:
        for name, value in error.items():
            if isinstance(value, Mapping):
                yield from _codes(value, depth - 1)
            elif isinstance(value, str | int) and re.search("code|status", str(name), re.IGNORECASE):
                yield str(value)


def quota_is_used_up(text: str) -> bool:
    """Return whether a refusal means that the account has nothing left to spend, for which no waiting helps.

    A limit of requests a minute, and a quota that comes back by itself at a time that is named, are none.

    >>> quota_is_used_up('{"code": "insufficient_quota"}'), quota_is_used_up("Rate limit reached for requests per min")
    (True, False)
    """
    return bool(_NO_MONEY_CODE.search(text) or (_NO_MONEY.search(text) and not _COMES_BACK.search(text)))


def of_status(status: int, text: str, headers: Mapping[str, str]) -> Fault:
    """The fault of an HTTP status above 299, in the service's own words."""
    if status < 400:
        target = headers.get("location", "nowhere")
        return Fault(f"http_{status}", f"HTTP {status}: redirects to {target}; set that address itself if it is right", again=False)
    text = _readable(text)
    wait = _asked_for(headers.get("retry-after"), headers.get("date"))
    for_good = quota_is_used_up(text) if wait is None else bool(_NO_MONEY_CODE.search(text))
    again = status in _RETRIED and not for_good
    return Fault(f"http_{status}", f"HTTP {status}: {_quoted(text, 300)}", again=again, wait=wait)


def _readable(text: str) -> str:
    """The body of an error with its letters in place of JSON's escapes for them, which a service writes for all but ASCII."""
    if "\\u" not in text:
        return text
    try:
        return json.dumps(json.loads(text), ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def of_error(error: Exception, seconds: float) -> Fault:
    """The fault that an exception of a client library, or of our own code, stands for."""
    if isinstance(error, Fault):
        return error
    if isinstance(error, asyncio.TimeoutError):
        return Fault("timeout", str(error) or f"no answer within {seconds:g} s")
    import aiohttp

    message = f"{type(error).__name__}: {error}"
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError | aiohttp.ClientConnectorCertificateError):
        return Fault("connection", message, again=False)
    if isinstance(error, aiohttp.ClientError | OSError):
        return Fault("connection", message)
    return Fault("bug", message, again=False)


def _asked_for(header: str | None, date: str | None = None) -> float | None:
    """Seconds that Retry-After asks to wait: a number or a date; None when there is no readable one.

    A date is counted from the answer's own Date, so that it does not matter whose clock is wrong. Without one a wait of more than some
    minutes is not to be told from a wrong clock, and is none.

    >>> _asked_for("1.5"), _asked_for("soon"), _asked_for(None), _asked_for("Thu, 01 Jan 1970 00:00:00 GMT")
    (1.5, None, None, 0.0)
    >>> _asked_for("Thu, 01 Jan 1970 01:00:07 GMT", "Thu, 01 Jan 1970 01:00:00 GMT")
    7.0
    """
    if not header:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", header):
        return float(header)
    until, now = _seconds_of(header), _seconds_of(date or "")
    if until is None:
        return None
    if now is None and until - time.time() > _FAR_SECONDS:
        return None
    return max(until - (time.time() if now is None else now), 0.0)


def _seconds_of(date: str) -> float | None:
    try:
        until = parsedate_to_datetime(date)
        return until.replace(tzinfo=until.tzinfo or UTC).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _quoted(text: str, most: int) -> str:
    """The beginning of what a service said; cut after the secrets are out, or half of one might stay."""
    return without_secrets(text[: 20 * most])[:most]
