"""The page of a blind comparison: two answers side by side, nobody told whose they are, and a choice for every question."""

from collections.abc import Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import FastAPI

from overtake.evaluation import preferences
from overtake.evaluation.preferences import Comparison, Item
from overtake.page import app as page
from overtake.page import rendering
from overtake.reading.tags import split_think

_LONGEST_NAME = 60
_BUTTONS = {
    "left": ("Left is better (1)", "左边更好 (1)"),
    "tie": ("As good as each other (2)", "一样好 (2)"),
    "right": ("Right is better (3)", "右边更好 (3)"),
    "both bad": ("Both are bad (4)", "都不好 (4)"),
}
_BACK = ("Take the last one back (0)", "撤回上一题 (0)")
_KEYS = {"1": "left", "ArrowLeft": "left", "2": "tie", "3": "right", "ArrowRight": "right", "4": "both_bad", "0": "back"}
# A key that is held down, or pressed while a name is written, chooses nothing.
_SCRIPT = """<script>
document.addEventListener("keydown", event => {
  const id = %s[event.key];
  if (!id || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target.closest("input, textarea, [role=listbox]")) return;
  const button = document.getElementById(id);
  if (button && !button.disabled) { event.preventDefault(); button.click(); }
});
</script>"""
# The question that is on the screen goes with a choice, so that two quick presses never judge one that nobody has seen.
_SEEN = "(seen, ...others) => [document.querySelector('[data-question]')?.dataset.question ?? '', ...others]"
_LEAVE_THE_FIELD = "() => { document.activeElement?.blur(); }"


class Asked(NamedTuple):
    """A comparison and the log of choices that it goes on with."""

    comparison: Comparison
    log: Path


def app(asked: Sequence[Asked]) -> FastAPI:
    """The page over these comparisons as a web application."""
    keys = "{" + ", ".join(f'"{key}": "{name}"' for key, name in _KEYS.items()) + "}"
    return page.framed(lambda gr: _content(gr, asked), _SCRIPT % keys)


def _content(gr: Any, asked: Sequence[Asked]) -> page.Labelled:
    state = gr.State(None)  # (place in `asked`, rater); stays on this server
    seen = gr.Textbox(visible=False)
    with gr.Row():
        name = gr.Textbox(label="Your name", max_length=_LONGEST_NAME, max_lines=1)
        names = [_title(one.comparison) for one in asked]
        titles = [
            (f"{title} ({one.log.parent})" if names.count(title) > 1 else title, at)
            for at, (title, one) in enumerate(zip(names, asked, strict=True))
        ]
        which = gr.Dropdown(titles, value=0, label="Task", visible=len(asked) > 1, filterable=False)
        begin = gr.Button("Begin", variant="primary")
    shown = gr.HTML(_welcome(), elem_classes=["answers"])
    with gr.Row():
        buttons = {choice: gr.Button(en, elem_id=choice.replace(" ", "_"), interactive=False) for choice, (en, _) in _BUTTONS.items()}
        back = gr.Button(_BACK[0], elem_id="back", interactive=False, size="sm")

    def show(of: tuple[int, str]) -> list[Any]:
        at, rater = of
        comparison, log = asked[at]
        left = preferences.waiting(log, comparison, rater)
        done = len(comparison.items) - len(left)
        html = _pair(comparison, left[0], rater, done) if left else _thanks(log, done)
        return [of, html, *(gr.update(interactive=bool(left)) for _ in buttons), gr.update(interactive=done > 0)]

    def started(written: str, at: int) -> list[Any]:
        rater = " ".join(written.split())
        if not rater:
            fault = rendering.message("Write your name first: it stands beside your choices.", "请先写下名字：它会和您的选择记在一起。")
            return [None, fault, *(gr.update(interactive=False) for _ in (*buttons, back))]
        return show((at, rater))

    def choose(choice: str, question: str, of: tuple[int, str]) -> list[Any]:
        comparison, log = asked[of[0]]
        item = next((item for item in preferences.waiting(log, comparison, of[1])[:1] if item.question == question), None)
        if item:
            preferences.add(log, comparison.line(item, of[1], choice))
        return show(of)

    def take_back(of: tuple[int, str]) -> list[Any]:
        comparison, log = asked[of[0]]
        if line := preferences.last(log, comparison, of[1]):
            preferences.add(log, {**line, "choice": preferences.VOID})
        return show(of)

    outputs = [state, shown, *buttons.values(), back]
    how = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    for event in (begin.click, name.submit):
        event(started, [name, which], outputs, **how).then(None, None, None, js=_LEAVE_THE_FIELD, **how)
    for choice, button in buttons.items():
        button.click(partial(choose, choice), [seen, state], outputs, js=_SEEN, **how)
    back.click(take_back, [state], outputs, **how)
    words = [(name, "label", ("Your name", "您的名字")), (which, "label", ("Task", "任务")), (begin, "value", ("Begin", "开始"))]
    return [*words, *((buttons[choice], "value", both) for choice, both in _BUTTONS.items()), (back, "value", _BACK)]


def _title(comparison: Comparison) -> str:
    """The task's name alone: that of a candidate would be half the secret."""
    tab = comparison.task.tab
    return f"{tab.en} / {tab.zh}" if tab else comparison.task.called


def _welcome() -> str:
    return f"""<p class="note">{
        rendering.both(
            "Two answers to each question stand side by side, in an order that is drawn anew for every question and person; whose they "
            "are is not said. Choose by button or by the keys 1 to 4. You may stop at any time: under the same name you go on where you "
            "were.",
            "每道题并排给出两个答案，左右次序对每题每人重新抽签，也不告诉您是谁写的。"
            "用按钮或数字键 1 到 4 选择。随时可停，下次用同一个名字接着做。",
        )
    }</p>"""


def _thanks(log: Path, done: int) -> str:
    command = f"python tools/evaluate.py --preferences {log}"
    said = rendering.both(
        f"That was the last of {done} questions. Thank you. The win rate: {command}", f"{done} 道题都做完了，谢谢。胜率：{command}"
    )
    return f'<p class="note" role="status">{said}</p>'


def _pair(comparison: Comparison, item: Item, rater: str, done: int) -> str:
    task, first = comparison.task, comparison.left(item, rater)
    inputs = {given.column: (given.en, given.zh) for given in task.tab.inputs} if task.tab else {}
    cells: dict[bool, list[str]] = {True: [], False: []}
    for name, text in item.cells.items():
        column = task.evaluation.shown[name]
        if text and column != task.evaluation.id:
            head = rendering.both(*inputs.get(column, (name, name)))
            cells[column in task.evaluation.texts].append(f"<h4>{head}</h4><p>{escape(text)}</p>")
    known = (
        f"<details><summary>{rendering.both('For checking', '供核对')}</summary>{''.join(cells[False])}</details>" if cells[False] else ""
    )
    answers = [_answer(*words, item.answers[place]) for words, place in ((("Left", "左"), first), (("Right", "右"), 1 - first))]
    count = rendering.both(f"question {done + 1} of {len(comparison.items)}", f"第 {done + 1} 题，共 {len(comparison.items)} 题")
    return (
        f'<div data-question="{escape(item.question)}"><p class="soft" role="status">{count}</p>'
        f'<section class="card">{"".join(cells[True])}{known}</section><div class="cards">{"".join(answers)}</div></div>'
    )


def _answer(en: str, zh: str, text: str) -> str:
    thought, answer = split_think(text)
    folded = f"<details><summary>{rendering.both('Reasoning', '推理过程')}</summary><p>{escape(thought)}</p></details>" if thought else ""
    body = escape(answer) if answer else rendering.both("(no answer)", "（没有回答）")
    return f'<section class="card"><h3>{rendering.both(en, zh)}</h3>{folded}<p>{body}</p></section>'
