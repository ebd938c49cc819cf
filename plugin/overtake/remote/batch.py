"""Provider batch mode: requests as a file of OpenAI's batch form, and its results put where live answers are kept, under the same keys."""

import asyncio
import hashlib
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from overtake import settings
from overtake.data import tables
from overtake.data.tables import BadInput
from overtake.remote import budget, faults
from overtake.remote.chat import ChatCall
from overtake.remote.faults import Fault
from overtake.remote.gateway import Failed, Gateway, Ok, Result
from overtake.remote.http import encode
from overtake.remote.process import loop
from overtake.remote.store import store

URL = "/v1/chat/completions"
"""What every request of the file asks for."""
_MOST_REQUESTS = 50_000
_MOST_BYTES = 200_000_000
"""Of one file: OpenAI's limits."""

T = TypeVar("T")


class Written(NamedTuple):
    """Counts of what `write` made of some calls."""

    files: list[Path]
    requests: int
    kept: int
    """Calls that need no request, since their answers are kept."""


class Problem(NamedTuple):
    """A line of the results that brought no answer."""

    kind: str
    """"broken line", "unknown custom_id", "duplicate", or what `Fault.kind` says: http_400, error_inside, unusable, …"""
    where: str
    """FILE:line."""
    words: str


@dataclass(frozen=True, slots=True)
class _Line:
    """One result as it stands in a file."""

    where: str
    key: str
    response: Any
    error: Any
    mark: str
    """Hash of the line, by which it is known when it is read again, so that nothing is counted as paid twice."""


def write(calls: Sequence[ChatCall], path: Path) -> Written:
    """Write the calls whose answers are not kept yet, one line each, as provider batch services and `vllm run-batch` read them.

    The custom_id is the cache key, so identical calls are one line. What a provider takes in one file at most (50,000 requests,
    200 MB) goes into PATH; more goes into PATH's name with .1, .2, … before the suffix. When nothing is left to ask, PATH is removed,
    so that no old requests are sent and paid again. Raises SettingsError when the budget is spent.
    """
    answered = _on_loop(_kept(calls))
    lines = {call.key: _request(call) for call in calls if call.key not in answered}
    if lines and (reason := _on_loop(_refusal(calls[0].model))):
        raise settings.SettingsError(reason)
    parts = list(_parts(lines.values()))
    files = [path] if len(parts) == 1 else [path.with_name(f"{path.stem}.{number}{path.suffix}") for number in range(1, len(parts) + 1)]
    tables.write_aside({file: b"".join(part) for file, part in zip(files, parts, strict=True)})
    if path not in files:
        path.unlink(missing_ok=True)
    return Written(files, len(lines), sum(call.key in answered for call in calls))


def read(gateway: Gateway, calls: Sequence[ChatCall], paths: Sequence[Path]) -> tuple[list[Result], list[Problem]]:
    """Accept results as if they had come live, and keep them: (what each call has come to, the lines that brought no answer).

    Reads OpenAI's output and error files and those of `vllm run-batch`. An answer that is kept already, whether it came live or from
    a batch, stays as it is. What the answers cost, at the model's batch price, counts in the gateway's meter, the ledger and the
    budget, once however often a file is read. Nothing is asked: a call without an answer is Failed.
    Raises BadInput when a file holds no results, or when none of them belongs to one of the calls.
    """
    problems: list[Problem] = []
    lines = [line for path in paths for line in _lines(path, problems)]
    by_key = {call.key: call for call in calls}
    problems += [
        Problem("unknown custom_id", line.where, f"{line.key[:80]!r} is no request of these rows")
        for line in lines
        if line.key not in by_key
    ]
    ours = [line for line in lines if line.key in by_key]
    if not ours:
        raise BadInput(
            f"{', '.join(map(str, paths))}: none of {len(lines)} results belongs to these rows: give the sheet and every option as when "
            "the requests were written, and the same model and address"
        )
    return _on_loop(_take(gateway, calls, by_key, ours, problems)), problems


def _on_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine where the store lives, and wait for it."""
    return asyncio.run_coroutine_threadsafe(work, loop()).result()


async def _kept(calls: Sequence[ChatCall]) -> set[str]:
    await store().reachable()
    return set(store().get([call.key for call in calls]))


async def _refusal(model: str) -> str:
    return budget.refusal(model)


def _request(call: ChatCall) -> bytes:
    return encode({"custom_id": call.key, "method": "POST", "url": URL, "body": call.body()}) + b"\n"


def _parts(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The lines in as few files as the limits allow."""
    part: list[bytes] = []
    size = 0
    for line in lines:
        if part and (len(part) == _MOST_REQUESTS or size + len(line) > _MOST_BYTES):
            yield part
            part, size = [], 0
        part.append(line)
        size += len(line)
    if part:
        yield part


def _lines(path: Path, problems: list[Problem]) -> list[_Line]:
    """The results in a file; lines of another form go to `problems`."""
    good, broken = [], []
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            where = f"{path}:{number}"
            if not raw.strip():
                continue
            try:
                value = msgspec.json.decode(raw)
                response = value["response"] if "error" not in value else value.get("response")
                mark = hashlib.sha256(raw.strip()).hexdigest()
                good.append(_Line(where, str(value["custom_id"]), response, value.get("error"), mark))
            except (msgspec.DecodeError, KeyError, TypeError, RecursionError):
                broken.append(Problem("broken line", where, 'not of the form {"custom_id", "response", "error"}'))
    if broken and not good:
        raise BadInput(f"{path}: no line is a batch's result: name the file of results (OpenAI's output or error file), not of requests")
    problems += broken
    return good


async def _take(
    gateway: Gateway, calls: Sequence[ChatCall], by_key: dict[str, ChatCall], lines: Sequence[_Line], problems: list[Problem]
) -> list[Result]:
    """Keep what is usable and count what is new. On the gateway's loop, and in one go, so that it is kept whole."""
    await store().reachable()
    in_store = store().get(list(by_key))
    before, marked = set(in_store), set(store().get([line.mark for line in lines]))
    failed: dict[str, Failed] = {}
    usd = 0.0
    for line in lines:
        call = by_key[line.key]
        came, paid = _accepted(call, line)
        if line.mark not in marked:
            marked.add(line.mark)
            usd += paid.get("usd") or 0.0
            _count(gateway, call, line, came, paid)
        if line.key in in_store:
            if line.key not in before:
                problems.append(Problem("duplicate", line.where, f"{line.key} has an answer from a line before"))
        elif isinstance(came, Fault):
            problems.append(Problem(came.kind, line.where, str(came)))
            failed[line.key] = Failed(f"{gateway.service}'s batch: {came}", came.kind, outage=False)
        else:
            in_store[line.key] = came
            store().put(line.key, came)
    budget.spend(usd)
    absent = Failed("not in the batch's results; run without --batch-read to ask live", "absent", outage=False)
    return [Ok(in_store[key], cached=key in before) if key in in_store else failed.get(key, absent) for key in (call.key for call in calls)]


def _accepted(call: ChatCall, line: _Line) -> tuple[dict[str, Any] | Fault, dict[str, Any]]:
    """What the call makes of the line, and what it cost at the batch price: "usage" and "usd", nothing for what is not billed."""
    came: dict[str, Any] | Fault
    try:
        came = call.accept(_answer(line))
    except Exception as error:  # noqa: BLE001 - as in the gateway: whatever reading trips over is a failed answer, never a crash
        came = faults.of_error(error, 0)
    paid = came.paid if isinstance(came, Fault) else {name: came[name] for name in ("usage", "usd")}
    if paid.get("usd"):
        paid = {**paid, "usd": paid["usd"] * budget.batch_share(call.model)}
    return (came if isinstance(came, Fault) else {**came, **paid}), paid


def _answer(line: _Line) -> Any:
    """The answer of POST /chat/completions in a result. Raises Fault for a request that failed: it is not asked again here."""
    response, error = line.response, line.error
    if isinstance(response, dict):
        status, body = response.get("status_code", 200), response.get("body")
        if not isinstance(status, int) or status >= 300:
            # vLLM tells the reason beside the response, OpenAI in its body.
            raise faults.of_status(status if isinstance(status, int) else 500, encode(body or error).decode(), {})
        if not error:
            return body
    raise faults.error_inside(error) if error else faults.malformed("the result holds neither an answer nor an error", response)


def _count(gateway: Gateway, call: ChatCall, line: _Line, came: dict[str, Any] | Fault, paid: dict[str, Any]) -> None:
    """Enter a line that was not read before into the meter and the ledger, and remember it."""
    gateway.meter.tokens += sum((paid.get("usage") or {}).values())
    gateway.meter.usd += paid.get("usd") or 0.0
    row: dict[str, Any] = {"service": gateway.service, "key": line.key[:16], "batch": True}
    if isinstance(came, Fault):
        row |= {"status": "failed", "kind": came.kind, "reason": str(came), "model": call.model}
    else:
        row |= {"status": "ok", "model": came["model"]}
    store().note({**row, **paid})
    store().put(line.mark, {"custom_id": line.key})
