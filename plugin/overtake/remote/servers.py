"""Several servers for one role: each call goes to the least busy of them, and one that fails is left out and tried again."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from overtake.redaction import without_secrets
from overtake.remote import faults
from overtake.remote.process import once

_log = logging.getLogger("overtake")
_LONGEST_REST = 30.0

T = TypeVar("T")


@dataclass(eq=False)
class _Server:
    """What this process knows of one address."""

    address: str
    busy: int = 0
    """Calls under way there."""
    asked: int = 0
    answers: int = 0
    failures: int = 0
    """One after the other, up to now."""
    failed_at: float = 0.0
    rests_until: float = 0.0

    def usable(self, now: float) -> bool:
        """Whether calls may go there: after a rest one alone, to see whether it is back."""
        return not self.failures or (now >= self.rests_until and not self.busy)

    def failed(self, reason: str, others: bool) -> None:
        """It brought no answer."""
        if others and not self.failures:
            _log.warning("%s fails (%s): the other servers are asked while it is tried again", without_secrets(self.address), reason)
        now = time.monotonic()
        if now >= self.rests_until:  # those that were sent together fail together, and count once
            self.failures, self.failed_at = self.failures + 1, now
            self.rests_until = now + min(2.0 ** (self.failures - 1), _LONGEST_REST)

    def answered(self, begun: float) -> None:
        """It answered a call begun at that time, be it with a refusal."""
        self.answers += 1
        if self.failures and begun > self.failed_at:  # and it did not only bring to its end what it had begun before
            _log.warning("%s answers again", without_secrets(self.address))
            self.failures, self.rests_until = 0, 0.0


def first(addresses: str) -> str:
    """The address under which answers are kept, whichever server gave them: they all serve the same."""
    return addresses.split()[0] if addresses.strip() else ""


async def ask(addresses: str, send: Callable[[str], Awaitable[T]]) -> T:
    """Return what `send(address)` returns for the least busy of some addresses, which stand apart by blanks.

    Where a server does not answer, or with a 5xx, the next one is asked at once; raises what `send` does when none is left, and at once
    what would be the same elsewhere. To be called inside `Call.send`.
    """
    known: dict[str, _Server] = once("servers", dict)
    servers = [known.setdefault(address, _Server(address)) for address in addresses.split()]
    tried: list[_Server] = []
    while True:
        server = _least_busy([server for server in servers if server not in tried])
        tried.append(server)
        answers, begun = server.answers, time.monotonic()
        server.busy, server.asked = server.busy + 1, server.asked + 1
        try:
            value = await send(server.address)
        except asyncio.CancelledError:  # its time was over, or nobody waits for it any more
            if server.answers == answers:
                server.failed("no answer in time", len(servers) > 1)
            raise
        except Exception as error:
            fault = faults.of_error(error, 0.0)
            if not fault.outage or fault.kind == "http_429":
                server.answered(begun)
                raise
            server.failed(str(fault), len(servers) > 1)
            now = time.monotonic()
            if not any(other.usable(now) for other in servers if other not in tried):
                raise
        else:
            server.answered(begun)
            return value
        finally:
            server.busy -= 1


def _least_busy(servers: Sequence[_Server]) -> _Server:
    now = time.monotonic()
    usable = [server for server in servers if server.usable(now)]
    if usable:
        return min(usable, key=lambda server: (server.busy, server.asked))
    return min(servers, key=lambda server: server.rests_until)
