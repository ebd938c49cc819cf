"""A real call to each service that a run's rewards ask, and what only a longer look at its rows tells."""

from collections.abc import Sequence
from typing import Any

from overtake.doctor import forecast, rows
from overtake.doctor.command import Command
from overtake.doctor.findings import Finding
from overtake.doctor.preflight import without_judge
from overtake.settings import SettingsError
from overtake.task import Task


def services(command: Command, tasks: Sequence[Task], no_judge: bool = False) -> list[Finding]:
    """A real call to each service that the rewards of `tasks` ask, and near-copies of held-out questions."""
    names = command.flags.get("reward_funcs", [])
    sides = {
        side: [row for path in rows.files(command.flags.get(side, [])) for row in rows.read(path)] for side in ("dataset", "val_dataset")
    }
    results: list[Finding] = []
    for task in tasks:
        of_run = [reward for reward in task.rewards if reward.name in names]
        if task.attacks.services and any("retrieval" in reward.asks for reward in of_run):
            results += task.attacks.services(sides["dataset"])
        judged = [reward for reward in of_run if forecast.judged(reward, sides["dataset"])]
        if judged and not no_judge:
            results += _judge(task, without_judge(judged), sides["dataset"])
    questions, held_out = ([text for row in side if (text := rows.question(row, tasks))] for side in sides.values())
    if questions and held_out:
        from overtake.data.near_duplicates import overlaps

        near = [duplicate for duplicate in overlaps(questions, held_out) if not duplicate.exact]
        if near:
            first = f"{questions[near[0].place][:30]} / {held_out[near[0].of][:30]}"
            remedy = "read them: what nearly repeats a held-out question makes the measurement kinder"
            results.append(Finding("warning", "leak", f"{len(near)} questions come near to a held-out one, e.g. {first}", remedy))
    return results


def _judge(task: Task, without: str, of_run: Sequence[dict[str, Any]]) -> list[Finding]:
    """A call to the judge as the task's rewards make it, and its worth on the run's rows; `without` says how to go on without one."""
    from overtake.data.cells import cells
    from overtake.remote import chat
    from overtake.remote.gateway import Ok

    try:
        to = chat.endpoint("judge")
        call = (task.attacks.judge or _any_call)(to)
        call.cached = False
        result = chat.chat_gateway("judge").run([call])[0]
    except SettingsError as error:
        return [Finding("error", "judge", str(error), "set it as it says, or go on without: --no-judge")]
    rules = ", ".join(chat.parameters(to.model, 1, 0.0))
    if isinstance(result, Ok):
        answers = Finding("ok", "judge", f"{to.model} answers with a verdict; asked with {rules}")
        return [answers, *(task.attacks.worth([cells(row) for row in of_run]) if task.attacks.worth and of_run else [])]
    remedy = f"see to its address, model and key, or set {without}"
    return [Finding("error", "judge", f"{to!r}, asked with {rules}: {result.reason}", remedy)]


def _any_call(to: Any) -> Any:
    from overtake.remote.chat import chat_call

    return chat_call(to, [{"role": "user", "content": "1 + 1 = ?"}], 64, temperature=0.0)
