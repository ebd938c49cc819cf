"""The Gradio page: a tab a task, in two languages. It stores nothing that is typed, calls nobody outside, and shows no key."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import FastAPI, Request, Response

from overtake.data.tables import BadInput
from overtake.evaluation import examples
from overtake.evaluation.examples import Example
from overtake.evaluation.summaries import task_of
from overtake.page import candidates, rendering
from overtake.page.candidates import Answered, Candidate
from overtake.task import Input, Row, Task

# Before Gradio is imported: it would report its start, and ask for its newest version.
os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}

LONGEST = 4000
"""Characters of an input: as many as the RAG service takes."""
_SHOWN = 12
"""Examples of a tab."""
_AT_ONCE = 8
# Whatever Gradio's own page may want: nothing beyond this server is loaded, asked or sent to, and no other page may frame this one.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; frame-ancestors 'none'; "
    "form-action 'self'; base-uri 'self'"
)
_WORDS = {
    "submit": ("Ask", "提问"),
    "judge": ("Ask the judge", "请评审打分"),
    "example": ("A held-out question", "留出集里的问题"),
    "language": ("Language", "语言"),
}

Labelled = list[tuple[Any, str, tuple[str, str]]]
"""Components whose words change with the language: component, property, words in English and Chinese."""


class Examples(NamedTuple):
    """Held-out rows of an evaluation."""

    shares: tuple[str, str]
    """How many there are of each outcome, in English and Chinese."""
    rows: list[tuple[str, Row]]
    """(what a person chooses by, the row's cells)"""


class Shown(NamedTuple):
    """A task with those who answer it."""

    task: Task
    inputs: tuple[Input, ...]
    candidates: list[Candidate]
    examples: Examples | None


def shown(task: Task, systems: Sequence[str], evaluation: Path | None) -> Shown:
    """A tab's content. Raises BadInput, SettingsError."""
    columns = task.evaluation.texts
    inputs = task.tab.inputs if task.tab else tuple(Input(name, name, name, lines=2) for name in columns)
    found = candidates.candidates(task, systems)
    return Shown(task, inputs, found, _examples(task, evaluation) if evaluation else None)


def of_evaluation(folder: Path, tasks: Sequence[Task]) -> Task:
    """The task that a folder of tools/evaluate.py measured. Raises BadInput where it holds none."""
    file = folder / "summary.json"
    if not file.is_file():
        raise BadInput(f"--eval {folder}: no summary.json there: name the output folder of tools/evaluate.py")
    return task_of(json.loads(file.read_text(encoding="utf-8")), tasks)


def app(tabs: Sequence[Shown]) -> FastAPI:
    """The page over these tabs as a web application."""

    def content(gr: Any) -> Labelled:
        with gr.Tabs():
            return [label for tab in tabs for label in _tab(gr, tab)]

    return framed(content)


def framed(content: Callable[[Any], Labelled], head: str = "") -> FastAPI:
    """A page of ours as a web application: `content(gradio)` below the title and the choice of a language; `head` as HTML.

    What the content returns is labelled anew where the language changes.
    """
    import gradio as gr

    web = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @web.middleware("http")
    async def keep_to_ourselves(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cache-Control"] = response.headers.get("Cache-Control", "no-store")
        return response

    theme = gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    with gr.Blocks(analytics_enabled=False, title="Overtake") as blocks:
        style = gr.HTML(rendering.showing("en"), padding=False)
        with gr.Row():
            gr.HTML("<h1>Overtake</h1>")
            languages = [(name, code) for code, name in rendering.LANGUAGES.items()]
            language = gr.Radio(languages, value="en", label=_WORDS["language"][0], elem_id="language")
        labelled: Labelled = [(language, "label", _WORDS["language"]), *content(gr)]

        def switched(code: str) -> list[Any]:
            at = list(rendering.LANGUAGES).index(code)
            changed: list[dict[str, Any]] = [{what: words[at]} for _, what, words in labelled]
            return [rendering.showing(code), *(gr.update(**words) for words in changed)]

        def opened(request: gr.Request) -> list[Any]:
            code = preferred(request.headers.get("accept-language", ""))
            return [gr.update(value=code), *switched(code)]

        outputs = [style, *(component for component, _, _ in labelled)]
        language.input(switched, [language], outputs, show_progress="hidden", queue=False, api_visibility="private")
        blocks.load(opened, None, [language, *outputs], show_progress="hidden", queue=False, api_visibility="private")
    blocks.queue(default_concurrency_limit=_AT_ONCE)
    return gr.mount_gradio_app(
        web,
        blocks,
        path="/",
        footer_links=[],
        ssr_mode=False,
        theme=theme,
        css=rendering.STYLE,
        head=head,
        max_file_size=1,
        run_history=False,
    )


def preferred(accepted: str) -> str:
    """The language of a browser: that of ours which its Accept-Language names first, else English.

    >>> preferred("zh-CN,zh;q=0.9,en;q=0.8"), preferred("de, en;q=0.5"), preferred("")
    ('zh', 'en', 'en')
    """
    codes = (part.split(";")[0].strip().lower()[:2] for part in accepted.split(","))
    return next((code for code in codes if code in rendering.LANGUAGES), "en")


def _tab(gr: Any, tab: Shown) -> Labelled:
    """One tab; its components whose words change with the language: component, property, words in each language."""
    task, about = tab.task, tab.task.tab
    names = [candidate.name for candidate in tab.candidates]
    title = (about.en, about.zh) if about else (task.called, task.called)
    with gr.Tab(title[0], id=task.called) as head:
        labelled: Labelled = [(head, "label", title)]
        if about and any(about.note):
            gr.HTML(f'<p class="note">{rendering.both(*about.note)}</p>')
        if not any(candidate.ask for candidate in tab.candidates):
            gr.HTML(f'<p class="note">{rendering.both(*_nobody(task))}</p>')
        fields: list[Any] = []
        if tab.examples:
            choices = [(label, at) for at, (label, _) in enumerate(tab.examples.rows)]
            chosen = gr.Dropdown(choices, value=None, label=_WORDS["example"][0], filterable=False)
            gr.HTML(f'<p class="soft">{rendering.both(*tab.examples.shares)}</p>')
            labelled.append((chosen, "label", _WORDS["example"]))
        for given in tab.inputs:
            fields.append(_field(gr, given))
            labelled.append((fields[-1], "label", (given.en, given.zh)))
        if tab.examples:
            rows = [row for _, row in tab.examples.rows]
            picked = [given.column for given in tab.inputs if not given.choices]

            def fill(at: int | None) -> list[Any]:
                return [gr.skip() if at is None else rows[at].get(column, "") for column in picked]

            free = [field for field, given in zip(fields, tab.inputs, strict=True) if not given.choices]
            chosen.input(fill, [chosen], free, show_progress="hidden", queue=False, api_visibility="private")
        with gr.Row():
            submit = gr.Button(_WORDS["submit"][0], variant="primary")
            labelled.append((submit, "value", _WORDS["submit"]))
            judge = gr.Button(_WORDS["judge"][0], visible=bool(about and about.judge), interactive=False)
            labelled.append((judge, "value", _WORDS["judge"]))
        answers = gr.HTML("", elem_classes=["answers"])
        kept = gr.State(None)

        def ask(*cells: str) -> Iterator[tuple[str, Any, Any]]:
            row = {given.column: str(cell or "") for given, cell in zip(tab.inputs, cells, strict=True)}
            if not row[tab.inputs[0].column].strip():
                yield rendering.message("Write a question first.", "请先写下问题。"), None, gr.update(interactive=False)
                return
            made: list[Answered | None] = [None] * len(names)
            yield rendering.cards(names, made), None, gr.update(interactive=False)
            for at, answered in _each(tab, row):
                made[at] = answered
                yield rendering.cards(names, made), None, gr.update(interactive=False)
            yield rendering.cards(names, made), (row, made), gr.update(interactive=any(one and not one.fault for one in made))

        def ask_the_judge(of: tuple[Row, list[Answered]] | None) -> tuple[str, Any]:
            if of is None:
                return rendering.message("Ask first.", "请先提问。"), gr.update(interactive=False)
            row, made = of
            with ThreadPoolExecutor(_AT_ONCE) as threads:
                verdicts = list(threads.map(lambda one: candidates.judged(task, one, row), made))
            return rendering.cards(names, verdicts), gr.update(interactive=False)

        outputs = [answers, kept, judge]
        submit.click(ask, fields, outputs, show_progress="hidden", api_visibility="private")
        for field, given in zip(fields, tab.inputs, strict=True):
            if not given.choices:
                field.submit(ask, fields, outputs, show_progress="hidden", api_visibility="private")
        judge.click(ask_the_judge, [kept], [answers, judge], show_progress="hidden", api_visibility="private")
    return labelled


def _field(gr: Any, given: Input) -> Any:
    if given.choices:
        values = list(given.choices())
        return gr.Dropdown(values, value=values[0], label=given.en, allow_custom_value=True)
    return gr.Textbox(label=given.en, lines=given.lines, max_lines=12, max_length=LONGEST)


def _each(tab: Shown, row: Row) -> Iterator[tuple[int, Answered]]:
    """Every candidate's answer with its place, as they come."""
    threads = ThreadPoolExecutor(len(tab.candidates))
    try:
        places = {threads.submit(candidates.answer, tab.task, candidate, row): at for at, candidate in enumerate(tab.candidates)}
        for future in as_completed(places):
            yield places[future], future.result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def _nobody(task: Task) -> tuple[str, str]:
    served = f"bash recipes/page.sh --system {task.called}:NAME=MODEL@http://127.0.0.1:{task.port}/v1"
    return f"No model answers here yet. Serve one, and start so: {served}", f"这里还没有模型可答。先部署一个，再这样启动：{served}"


def _examples(task: Task, folder: Path) -> Examples | None:
    """Held-out rows in the shares in which the compared system gains, ties and loses; None where nothing compares them."""
    summary: Mapping[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    details = examples.read_details(folder, list(summary["means"]), task)
    ours, theirs = examples.compared(summary, details, task)
    if not ours or not theirs:
        return None
    measure = examples.main_measure(list(summary["means"][ours]), task)
    parts = examples.outcomes(details, ours, theirs, measure, task)
    counts = {name: len(part) for name, part in parts.items()}
    total = sum(counts.values())
    en = f"{ours} against {theirs}, {total} held-out rows: {counts['better']} better, {counts['same']} the same, {counts['worse']} worse"
    zh = f"{ours} 对 {theirs}，留出 {total} 行：{counts['better']} 更好，{counts['same']} 一样，{counts['worse']} 更差"
    return Examples((en, zh), [_example(task, example) for example in examples.in_their_shares(parts, _SHOWN)])


def _example(task: Task, example: Example) -> tuple[str, Row]:
    row = {task.evaluation.shown[name]: words for name, words in example.asked.items()}
    sign = "▲" if example.difference > 0 else "▼" if example.difference < 0 else "="
    question, *_ = example.asked.values() if task.tab is None else (row.get(given.column, "") for given in task.tab.inputs)
    return f"{sign} {' '.join(question.split())[:80]}", row
