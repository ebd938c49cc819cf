"""A circuit breaker: when a service fails nearly every request, all wait while one of them probes; after a while they give up."""

import asyncio
import logging
import time
from collections import deque
from typing import Protocol

_log = logging.getLogger("overtake")
_RECENT = 32
_FAILURES = 26
_LONGEST_PROBE_WAIT = 30.0
_LOOK_SECONDS = 0.2


class Others(Protocol):
    """The processes of other machines that ask the same service. Its methods raise nothing; who cannot be told is not."""

    def circuit_opened(self, circuit: "Circuit") -> None:
        """Let all of them pause."""

    def circuit_closed(self, circuit: "Circuit") -> None:
        """Let all of them go on."""

    def may_probe(self, circuit: "Circuit") -> bool:
        """Return whether none of them probes, nor has just done; this process then does."""

    def probe_again_in(self, circuit: "Circuit", seconds: float) -> None:
        """Let nobody probe for so long."""


class Circuit:
    """The state of one service in this process, and by `others` in all. An open circuit costs waiting calls no attempt."""

    def __init__(self, service: str, patience: float, *, place: str = "", failures: int = _FAILURES) -> None:
        self.service, self.place = service, place
        self.patience = patience
        """Seconds a service may stay down before its calls are given up."""
        self.others: Others | None = None
        self._failures = failures
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
    def given_up(self) -> bool:
        """State in which it has stayed down for longer than the patience."""
        return self._opened is not None and time.monotonic() - self._opened >= self.patience

    @property
    def paused(self) -> float:
        """Seconds this circuit has been open so far, at most `patience` for each time."""
        return self._paused + (0.0 if self._opened is None else min(time.monotonic() - self._opened, self.patience))

    def renew(self) -> None:
        """A new batch may try a service that was given up."""
        if self.given_up:
            self._paused = self.paused
            self._opened, self._next_probe, self._probes = time.monotonic(), 0.0, 0

    async def enter(self) -> bool | None:
        """Wait until a request may be sent: False as usual, True as the probe; None: the service stayed down, give up."""
        while self._opened is not None:
            if self.probe_now():
                return True
            if self.given_up:
                return None
            await asyncio.sleep(_LOOK_SECONDS)
        return False

    def probe_now(self) -> bool:
        """Return whether the circuit is open and it is this caller's turn to see whether the service is back."""
        if self._opened is None or self._probing or time.monotonic() < self._next_probe:
            return False
        if self.others and not self.others.may_probe(self):
            self._next_probe = time.monotonic() + 1.0
            return False
        self._probing = True
        return True

    def answered(self) -> None:
        """The service answered a request, be it with a refusal."""
        self._recent.append(True)
        if self._opened is not None:
            self._close()
            if self.others:
                self.others.circuit_closed(self)

    def _close(self) -> None:
        assert self._opened is not None
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
            wait = min(2.0**self._probes, _LONGEST_PROBE_WAIT)
            self._next_probe = time.monotonic() + wait
            if self.others:
                self.others.probe_again_in(self, wait)
        elif self._opened is None and self._recent.count(False) >= self._failures:
            self._pause()
            _log.warning(
                "%s: %d of the last %d requests failed (%s): pausing for at most %.0f s while one request at a time tries again",
                *(self.service, self._recent.count(False), len(self._recent), reason, self.patience),
            )
            if self.others:
                self.others.circuit_opened(self)

    def _pause(self) -> None:
        self._opened = time.monotonic()
        self._next_probe = self._opened + 1.0

    def learn(self, down: bool) -> None:
        """Another process has found the service down, or answering again."""
        if down and self._opened is None:
            self._pause()
            message = "%s: another process finds it down: pausing for at most %.0f s while one request at a time tries again"
            _log.warning(message, self.service, self.patience)
        elif not down and self._opened is not None:
            self._close()

    def left(self, probe: bool) -> None:
        """A request was cancelled: another one may probe."""
        self._probing = self._probing and not probe
        if probe and self.others:
            self.others.probe_again_in(self, 0.0)
