"""Limits on what one process may ask of a service: its share of the concurrency and of the requests and tokens a minute."""

import asyncio
import os
from collections.abc import Callable

from aiolimiter import AsyncLimiter

_MARGIN = 0.98
"""Of the rate that is allowed: what is sent evenly does not arrive evenly."""
_BURST_SECONDS = 0.1


def ranks() -> tuple[int, int]:
    """Return (this process's rank, how many there are), as torchrun tells; (0, 1) outside of it."""
    return int(os.environ.get("RANK", 0)), max(int(os.environ.get("WORLD_SIZE", 1)), 1)


def share(total: int, rank: int, world: int) -> int:
    """Return this rank's part of a concurrency: the parts sum up to the total, except that every rank has at least one.

    >>> [share(10, rank, 4) for rank in range(4)], share(1, 3, 4)
    ([3, 3, 2, 2], 1)
    """
    return max(total // world + (rank < total % world), 1)


Pace = Callable[[str, float, float, float], float | None]
"""`Store.pace`: (name, amount, a second, burst) -> seconds to wait, None where nothing is shared."""


class RateLimiter:
    """Requests and tokens a minute, each rank an equal part, or where the store is shared all of it; 0 means no limit.

    Whoever asks first goes first. Tokens are taken before a request by estimate, and what was really used is settled after it.
    """

    def __init__(self, requests_a_minute: int, tokens_a_minute: int, place: str = "", pace: Pace | None = None) -> None:
        """`place`: whose limits these are, by which all processes that `pace` reaches know them."""
        world = ranks()[1]
        self._pace = pace
        limits = (("requests", requests_a_minute, _BURST_SECONDS), ("tokens", tokens_a_minute, 100 * _BURST_SECONDS))
        self._of_all = {
            what: (f"{place} {what} {a_minute}", a_minute * _MARGIN / 60, burst_seconds)
            for what, a_minute, burst_seconds in limits
            if a_minute
        }
        self._requests = _limiter(requests_a_minute / world, _BURST_SECONDS)
        # One request may take thousands of tokens, so more of them may go at once.
        self._tokens = _limiter(tokens_a_minute / world, 100 * _BURST_SECONDS)
        self._owed = 0.0
        self._turn = asyncio.Lock()  # a limiter alone would let the smallest of those who wait go first

    async def take(self, tokens: int) -> None:
        """Wait until one request of about so many tokens may be sent. Raises StoreGone."""
        wait = self._use_of_all({"requests": 1, "tokens": tokens})
        if wait is not None:
            try:
                await asyncio.sleep(wait)
            except asyncio.CancelledError:
                self._use_of_all({"requests": -1, "tokens": -tokens})
                raise
            return
        async with self._turn:
            self._owed += tokens if self._tokens else 0
            try:
                while self._tokens and self._owed > 0:
                    # In parts, since what is given back meanwhile shortens the wait.
                    part = min(self._owed, self._tokens.max_rate / 10)
                    await self._tokens.acquire(part)
                    self._owed -= part
                if self._requests:
                    await self._requests.acquire()
            except asyncio.CancelledError:
                self._credit(tokens)
                raise

    def settle(self, tokens: int, used: int) -> None:
        """Tell how many tokens the request of about `tokens` really took; 0 where the service does not say."""
        if used and self._use_of_all({"tokens": used - tokens}) is None:
            self._credit(tokens - used)

    def _use_of_all(self, amounts: dict[str, float]) -> float | None:
        """Take so much of what all processes may use; seconds to wait for it, None where each keeps to its part."""
        waits = [
            self._pace(name, amounts[what], a_second, max(a_second * burst_seconds, 1.0))
            for what, (name, a_second, burst_seconds) in self._of_all.items()
            if self._pace and what in amounts
        ]
        return max((wait for wait in waits if wait is not None), default=None)

    def _credit(self, tokens: int) -> None:
        # No more than what may go at once anyway.
        self._owed = max(self._owed - tokens, -self._tokens.max_rate if self._tokens else 0.0)


def _limiter(a_minute: float, burst_seconds: float) -> AsyncLimiter | None:
    """Even pacing: in any t seconds at most t times the rate, and a burst of `burst_seconds` of it, or of one."""
    if not a_minute:
        return None
    a_second = a_minute * _MARGIN / 60
    burst = max(a_second * burst_seconds, 1.0)
    return AsyncLimiter(burst, burst / a_second)
