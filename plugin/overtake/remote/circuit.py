"""A circuit breaker: when a service fails nearly every request, all wait while one of them probes; after a while they give up."""

import asyncio
import logging
import time
from collections import deque

_log = logging.getLogger("overtake")
_RECENT = 32
_FAILURES = 26
_LONGEST_PROBE_WAIT = 30.0
_LOOK_SECONDS = 0.2


class Circuit:
    """The state of one service in this process. An open circuit costs waiting calls no attempt."""

    def __init__(self, service: str, patience: float) -> None:
        self.service = service
        self.patience = patience
        """Seconds a service may stay down before its calls are given up."""
        self._recent: deque[bool] = deque(maxlen=_RECENT)
        self._opened: float | None = None
        self._paused = 0.0
        self._probes = 0
        self._probing = False
        self._next_probe = 0.0

    @property
    def open(self) -> bool:
        """State in which calls wait for the service to come back."""
        return self._opened is not None

    @property
    def paused(self) -> float:
        """Seconds this circuit has been open so far, at most `patience` for each time."""
        return self._paused + (0.0 if self._opened is None else min(time.monotonic() - self._opened, self.patience))

    def renew(self) -> None:
        """A new batch may try a service that was given up."""
        if self._opened is not None and time.monotonic() - self._opened >= self.patience:
            self._paused = self.paused
            self._opened, self._next_probe, self._probes = time.monotonic(), 0.0, 0

    async def enter(self) -> bool | None:
        """Wait until a request may be sent: False as usual, True as the probe; None: the service stayed down, give up."""
        while self._opened is not None:
            now = time.monotonic()
            if not self._probing and now >= self._next_probe:
                self._probing = True
                return True
            if now - self._opened >= self.patience:
                return None
            await asyncio.sleep(_LOOK_SECONDS)
        return False

    def answered(self) -> None:
        """The service answered a request, be it with a refusal."""
        self._recent.append(True)
        if self._opened is not None:
            self._paused = self.paused
            _log.warning("%s answers again after %.0f s: going on", self.service, time.monotonic() - self._opened)
            self._opened, self._probing, self._probes = None, False, 0
            self._recent.clear()

    def failed(self, probe: bool, reason: str) -> None:
        """A request found the service down."""
        self._recent.append(False)
        if probe and self._opened is not None:
            self._probing = False
            self._probes += 1
            self._next_probe = time.monotonic() + min(2.0**self._probes, _LONGEST_PROBE_WAIT)
        elif self._opened is None and self._recent.count(False) >= _FAILURES:
            self._opened = time.monotonic()
            self._next_probe = self._opened + 1.0
            _log.warning(
                "%s: %d of the last %d requests failed (%s): pausing for at most %.0f s while one request at a time tries again",
                *(self.service, self._recent.count(False), len(self._recent), reason, self.patience),
            )

    def left(self, probe: bool) -> None:
        """A request was cancelled: another one may probe."""
        self._probing = self._probing and not probe
