"""Who answers what is typed: the question as it is, the teacher, endpoints, folders; an answer with what it took, or why there is none."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

from overtake import settings
from overtake.cli import Abort
from overtake.data.tables import BadInput
from overtake.evaluation import comparing, students
from overtake.evaluation.costs import Cost, gpu_usd
from overtake.remote import chat, http
from overtake.remote.gateway import Ok
from overtake.retrieval.serving import is_loopback
from overtake.task import Messages, Part, Row, Task

TEACHER = "teacher"
_REACHED = 3.0
"""Seconds for a connection on this machine."""
Asking = Callable[[Messages, bool | None], tuple[str | None, Cost]]
"""Asking(messages, whether room is left for a thought) -> the text ("" for one that is none, None for no answer), what it took."""


@dataclass(frozen=True)
class Answered:
    """Answer of a candidate to a row, or why there is none."""

    name: str
    text: str = ""
    seconds: float | None = None
    usd: float | None = None
    parts: tuple[Part, ...] = ()
    fault: str = ""
    """Why there is no answer, or nothing to see of it."""


@dataclass(frozen=True)
class Candidate:
    """One who answers a task's rows."""

    name: str
    """"" for the question as it is."""
    ask: Asking | None
    """None: the question as it is is the answer."""


def candidates(task: Task, systems: Sequence[str]) -> list[Candidate]:
    """The question as it is where the task knows that, then the systems: `teacher`, NAME=FOLDER, NAME=MODEL@BASE_URL.

    Raises BadInput for what can answer nothing that is typed now, SettingsError for a teacher that is not set.
    """
    how = task.evaluation
    specs = comparing.parse(task, [system for system in systems if system != TEACHER])
    if stale := [name for name, spec in specs.items() if spec.endswith(".jsonl") or spec in how.columns or ":" in name]:
        raise BadInput(f"--system {stale[0]}: it cannot answer what is typed now: name a folder or MODEL@BASE_URL")
    keys = settings.student_keys(spec.partition("@")[2] for spec in specs.values() if "@http" in spec)
    teachers = [Candidate(TEACHER, _of_teacher(task))] if TEACHER in systems else []
    found = [Candidate("", None)] if how.base else []
    found += teachers
    for name, spec in comparing.fetched(specs).items():
        url = spec.partition("@")[2] if "@http" in spec else ""
        found.append(Candidate(name, _of_endpoint(task, spec, keys[url]) if url else _of_folder(task, Path(spec))))
    return found


def answer(task: Task, candidate: Candidate, row: Row) -> Answered:
    """Ask a candidate, and see what there is to see of its answer; what goes wrong is said in the answer, for the others go on."""
    how, begun = task.evaluation, monotonic()
    made = Answered(candidate.name)
    try:
        if candidate.ask is None:
            made = replace(made, text=row[how.columns[how.base]])
        else:
            text, cost = candidate.ask(how.messages(row), task.decoding.thinks(row))
            made = replace(made, text=text or "", seconds=cost.seconds or monotonic() - begun, usd=cost.usd)
            if not text:
                return replace(made, fault="it gave no answer" if text == "" else "it did not answer: see whether it is served")
        return replace(made, parts=tuple(task.tab.parts(row, made.text) if task.tab else [Part("Answer", "回答", made.text)]))
    except (Abort, BadInput, ValueError, OSError) as error:  # SettingsError is a ValueError
        return replace(made, fault=" ".join(str(error).split())[:600])


def judged(task: Task, made: Answered, row: Row) -> Answered:
    """The same with the judge's verdict, or why there is none."""
    if made.fault or not made.text or task.tab is None or task.tab.judge is None:
        return made
    try:
        return replace(made, parts=(*made.parts, *task.tab.judge(row, made.text)))
    except (Abort, BadInput, ValueError) as error:
        return replace(made, parts=(*made.parts, Part("No verdict", "没有评审", " ".join(str(error).split())[:600])))


def _of_teacher(task: Task) -> Asking:
    to = chat.endpoint(TEACHER)

    def ask(messages: Messages, thinks: bool | None) -> tuple[str | None, Cost]:
        call = chat.chat_call(to, messages, task.decoding.limit, cached=False, thinking=thinks is not False)
        (result,) = chat.chat_gateway(TEACHER).run([call])
        if not isinstance(result, Ok):
            raise Abort(result.reason)
        clean = task.tab.of_teacher if task.tab else None
        text = str(result.value["text"])
        return clean(text) if clean else text, Cost(round(result.seconds, 4), usd=result.value.get("usd"))

    return ask


def _of_endpoint(task: Task, spec: str, key: str) -> Asking:
    model, _, url = spec.partition("@")

    def ask(messages: Messages, thinks: bool | None) -> tuple[str | None, Cost]:
        _is_served(url)
        taken: list[Cost] = []
        announced = task.decoding.thinking == "rows"
        (text,) = students.from_endpoint(
            model, url, key, [messages], task.decoding.limit, [thinks], lambda landed: taken.append(landed[0][2]), announced=announced
        )
        return text, taken[0] if taken else Cost()

    return ask


def _is_served(url: str) -> None:
    """Raise Abort where nobody listens on this machine: a request would be tried again for half a minute."""
    place = urlsplit(url)
    if is_loopback(place.hostname or ""):
        try:
            http.reach(url, _REACHED)
        except OSError as error:
            words = f"nobody listens at {place.hostname} port {place.port} ({error.strerror or error})"
            raise Abort(f"{words}: serve the model there") from None


def _of_folder(task: Task, folder: Path) -> Asking:
    lock = threading.Lock()
    kept: list[students.Loaded] = []

    def ask(messages: Messages, thinks: bool | None) -> tuple[str | None, Cost]:
        with lock:
            begun = monotonic()
            if not kept:
                kept.append(students.load(folder))
            (text,) = students.from_folder(folder, [messages], task.decoding.limit, [thinks], loaded=kept[0])
            seconds = monotonic() - begun
        return text, Cost(round(seconds, 4), usd=gpu_usd(seconds))

    return ask
