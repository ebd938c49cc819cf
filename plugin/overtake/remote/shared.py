"""Store on a Redis server, for the processes of all machines: what the disk keeps, and limits a minute and the state of each service, too.

While the server does not answer all calls pause, as for a service that is down; what is paid for meanwhile waits in memory.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from overtake import settings
from overtake.redaction import without_login, without_secrets
from overtake.remote.circuit import Circuit
from overtake.remote.http import encode
from overtake.remote.store import Account, Store, StoreGone, kept

_log = logging.getLogger("overtake")
_PREFIX = "overtake:"
_ANSWER_SECONDS = 2.0
"""For one exchange: every call of this process waits meanwhile."""
LEASE_SECONDS = 30.0
"""A process that was not heard of for so long has ended; until then its claims and reservations are its own."""
_BEAT_SECONDS = 1.0
_KEPT_SECONDS = 365 * 24 * 3600
"""Of an answer: what has an end may be evicted by a server with `maxmemory-policy volatile-lru`; money has none."""
_CLAIM_SECONDS = 24 * 3600
_LOOK_SECONDS = 0.1
_AT_ONCE = 500

# KEYS: answer, claim. ARGV: me, prefix of owners, "1" to believe all owners alive, "1" to leave a kept answer out of account.
_CLAIM = """
local answer = redis.call('GET', KEYS[1])
if answer and ARGV[4] ~= '1' then return answer end
local owner = redis.call('GET', KEYS[2])
if owner and owner ~= ARGV[1] and (ARGV[3] == '1' or redis.call('EXISTS', ARGV[2] .. owner) == 1) then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[5])
return 1
"""
# KEYS: claims. ARGV: me.
_RELEASE = """
for _, claim in ipairs(KEYS) do
  if redis.call('GET', claim) == ARGV[1] then redis.call('DEL', claim) end
end
"""
# KEYS: a value. ARGV: what it was, what it is to be. Nothing where that is done, else what it is.
_EXCHANGE = """
local value = redis.call('GET', KEYS[1]) or ''
if value ~= ARGV[1] then return value end
redis.call('SET', KEYS[1], ARGV[2])
return false
"""
# KEYS: when all that was let go will have been paid off, in microseconds. ARGV: microseconds to add, microseconds of the burst.
_PACE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local due = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now) + ARGV[1]
redis.call('SET', KEYS[1], string.format('%.0f', math.max(due, now)), 'PX', math.ceil(math.max(due - now, 0) / 1000) + 1000)
return string.format('%.0f', math.max(due - now - ARGV[2], 0))
"""

T = TypeVar("T")


class SharedStore(Store):
    """The store at an address of Redis; the ledger stays in `folder`.

    Raises SettingsError where no server answers there at the start.
    """

    def __init__(self, address: str, folder: Path, patience: float) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise settings.SettingsError(f"OVERTAKE_STORE needs redis-py ({error}): pip install -e '.[redis]'") from None
        folder.mkdir(parents=True, exist_ok=True)
        self._shown = without_login(address)
        super().__init__(folder, f"the store at {self._shown}", secrets.randbelow(2**48))
        self._errors = (redis.RedisError, OSError)
        self._redis: Any = redis.Redis.from_url(
            address,
            socket_timeout=_ANSWER_SECONDS,
            socket_connect_timeout=_ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 1),  # a connection that was dropped while nobody used it
            protocol=2,
        )
        self._scripts = {name: self._redis.register_script(text) for name, text in _SCRIPTS.items()}
        self._circuit = Circuit(self._place, patience, failures=1)
        self._watched: dict[str, Circuit] = {}
        self._accounts: dict[str, bytes] = {}
        self._seen: dict[int, float] = {}
        self._beaten = self._trusted_from = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._connect()
        self._open_ledger()
        with contextlib.suppress(RuntimeError):  # no loop, no beat: whoever calls beats
            self._timer = asyncio.get_running_loop().call_later(_BEAT_SECONDS, self._beat)

    def _connect(self) -> None:
        try:
            self._pulse()
            with contextlib.suppress(self._errors[0]):  # not every user may ask for it
                if not int(self._redis.info("persistence").get("aof_enabled", 1)):
                    message = (
                        "%s keeps nothing when it is killed (appendonly no): what was paid for is lost with it; set appendonly yes there"
                    )
                    _log.warning(message, self._place)
        except self._errors as error:
            remedy = "start redis-server, or correct the address, the user and the password"
            raise settings.SettingsError(f"OVERTAKE_STORE={self._shown} does not answer ({_words(error)}): {remedy}") from None

    # ------------------------------------------------------------ whether it is there

    def _do(self, work: Callable[[], T]) -> T:
        """What `work` returns. Raises StoreGone where the server does not answer, and does not ask it again before the circuit does."""
        if self._circuit.open and not self._closed:
            raise StoreGone(f"{self._place} does not answer")
        try:
            if time.monotonic() - self._beaten > _BEAT_SECONDS:
                self._pulse()
            return work()
        except self._errors as error:
            self._circuit.failed(False, _words(error))
            self._trouble = self._trouble or "held"
            raise StoreGone(f"{self._place} does not answer ({_words(error)})") from None

    def _beat(self) -> None:
        """Say once a second that this process lives, and hear what the others found; while the server is gone, look for it."""
        if self._closed:
            return
        if not self._circuit.open:
            with contextlib.suppress(StoreGone):
                self._do(lambda: None)
        elif self._circuit.probe_now():
            try:
                self._pulse()
            except self._errors as error:
                self._circuit.failed(True, _words(error))
            else:
                self._trusted_from = time.monotonic() + LEASE_SECONDS  # nobody could say that he lives
                self._circuit.answered()
                self.flush()
        self._timer = asyncio.get_running_loop().call_later(_BEAT_SECONDS, self._beat)

    def _pulse(self) -> None:
        watched = [*self._watched.values()]
        pipe = self._redis.pipeline(transaction=False)
        pipe.set(f"{_PREFIX}owner:{self._me}", 1, px=int(1000 * LEASE_SECONDS))
        for circuit in watched:
            pipe.exists(_down(circuit))
            if circuit.open:  # for as long as somebody finds it so
                pipe.set(_down(circuit), self._me, px=int(1000 * LEASE_SECONDS), xx=True)
        _, *states = pipe.execute()
        self._beaten = time.monotonic()
        for circuit in watched:
            down, *_ = states[: 1 + circuit.open]
            del states[: 1 + circuit.open]
            circuit.learn(bool(down))

    async def reachable(self) -> bool:
        """Wait until the server answers; False: it did not for as long as the patience."""
        while self._circuit.open:
            if self._circuit.given_up:
                return False
            await asyncio.sleep(_LOOK_SECONDS)
        return True

    @property
    def paused(self) -> float:
        """Seconds for which all calls have waited for the server so far."""
        return self._circuit.paused

    def renew(self) -> None:
        """A new batch may try a server that was given up."""
        self._circuit.renew()

    # ------------------------------------------------------------ what a store does

    def _read_answers(self, keys: Sequence[str]) -> dict[str, bytes]:
        values: dict[str, bytes] = {}
        for part in _parts(keys):
            came = self._do(partial(self._redis.mget, [_answer(key) for key in part]))
            values |= {key: value for key, value in zip(part, came, strict=True) if value is not None}
        return values

    def _keep(self, answers: Mapping[str, bytes], released: Sequence[str]) -> bool:
        def keep(part: Sequence[tuple[str, bytes]]) -> None:
            pipe = self._redis.pipeline(transaction=False)
            for key, value in part:
                pipe.set(_answer(key), value, ex=_KEPT_SECONDS)
            pipe.execute()

        try:
            for part in _parts([*answers.items()]):
                self._do(partial(keep, part))
            for claims in _parts(released):
                self._run("release", [_claim(key) for key in claims], [self._me])
        except StoreGone:
            return False
        return True

    def _claim(self, key: str) -> bytes | bool:
        owner = f"{_PREFIX}owner:"
        for anew in (0, 1):
            trusting = int(time.monotonic() < self._trusted_from)
            came = self._run("claim", [_answer(key), _claim(key)], [self._me, owner, trusting, anew, _CLAIM_SECONDS])
            if not isinstance(came, bytes):
                return bool(came)
            if kept(key, came) is not None:
                break
        return came

    def _owner(self, key: str) -> int | None:
        owner = self._do(lambda: self._redis.get(_claim(key)))
        return int(owner) if owner else None

    def alive(self, owner: int) -> bool:
        """Return whether the process of that number was heard of within its lease."""
        now = time.monotonic()
        if owner == self._me or now < self._trusted_from or now - self._seen.get(owner, -LEASE_SECONDS) < _BEAT_SECONDS:
            return True
        alive = bool(self._do(lambda: self._redis.exists(f"{_PREFIX}owner:{owner}")))
        if alive:
            self._seen[owner] = now
        return alive

    def _change(self, run: str, work: Callable[[Account], T]) -> T:
        key = f"{_PREFIX}account:{run}"
        value = self._accounts.get(run)
        if value is None:
            value = self._do(lambda: self._redis.get(key)) or b""
        while True:
            account = Account.read(value)
            result = work(account)
            changed = encode(account)
            other = self._run("exchange", [key], [value, changed])
            if other is None:
                self._accounts[run] = changed
                return result
            value = other

    def _leave(self) -> None:
        if self._timer:
            self._timer.cancel()
        with contextlib.suppress(StoreGone):
            self._run("release", [_claim(key) for key in self._claims], [self._me])
            self._do(lambda: self._redis.delete(f"{_PREFIX}owner:{self._me}"))
        self._redis.close()

    def _run(self, script: str, keys: Sequence[str], values: Sequence[str | bytes | int]) -> Any:
        return self._do(lambda: self._scripts[script](keys=keys, args=values)) if keys else None

    # ------------------------------------------------------------ what only a shared store does

    def pace(self, name: str, amount: float, a_second: float, burst: float) -> float:
        """Take `amount` of what all processes together may use; seconds to wait before it may be used. Raises StoreGone."""
        values = [int(1e6 * amount / a_second), int(1e6 * burst / a_second)]
        return int(self._run("pace", [f"{_PREFIX}limit:{name}"], values)) / 1e6

    def watch(self, circuit: Circuit) -> None:
        """Share the circuit of a service whose address is known with all processes that ask it."""
        if circuit.place and not circuit.others:
            circuit.others = self
            self._watched[_down(circuit)] = circuit

    def circuit_opened(self, circuit: Circuit) -> None:
        """Let all processes pause."""
        with _untold():
            self._do(lambda: self._redis.set(_down(circuit), self._me, px=int(1000 * LEASE_SECONDS)))

    def circuit_closed(self, circuit: Circuit) -> None:
        """Let all processes go on."""
        with _untold():
            self._do(lambda: self._redis.delete(_down(circuit), _probe(circuit)))

    def may_probe(self, circuit: Circuit) -> bool:
        """Return whether no other process probes, nor has just done; this one then does."""
        with _untold():
            return bool(self._do(lambda: self._redis.set(_probe(circuit), self._me, px=int(1000 * LEASE_SECONDS), nx=True)))
        return True

    def probe_again_in(self, circuit: Circuit, seconds: float) -> None:
        """Let no process probe for so long."""
        with _untold():
            if seconds:
                self._do(lambda: self._redis.set(_probe(circuit), self._me, px=int(1000 * seconds)))
            else:
                self._do(lambda: self._redis.delete(_probe(circuit)))


_SCRIPTS = {"claim": _CLAIM, "release": _RELEASE, "exchange": _EXCHANGE, "pace": _PACE}


@contextlib.contextmanager
def _untold() -> Iterator[None]:
    """While the store is gone each process goes by what it finds itself; all calls wait for the store anyway."""
    with contextlib.suppress(StoreGone):
        yield


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE))


def _answer(key: str) -> str:
    return f"{_PREFIX}answer:{key}"


def _claim(key: str) -> str:
    return f"{_PREFIX}claim:{key}"


def _down(circuit: Circuit) -> str:
    return f"{_PREFIX}down:{circuit.service} {circuit.place}"


def _probe(circuit: Circuit) -> str:
    return f"{_PREFIX}probe:{circuit.service} {circuit.place}"


def _words(error: Exception) -> str:
    """The error's words without the password, which Redis' own never hold but an address might."""
    return without_secrets(f"{type(error).__name__}: {error}")
