"""One HTML page for training runs: what the watch says, the held-out table, curves, examples, settings, data; no network, no script."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from overtake.data.outputs import reading
from overtake.data.tables import BadInput, read_objects, write_aside
from overtake.evaluation import examples, headline, promises
from overtake.evaluation.curves import read_log
from overtake.evaluation.plotting import MOST_RUNS, panels, plot, points
from overtake.evaluation.summaries import task_of
from overtake.evaluation.watch import SIGNS, watch
from overtake.task import Task

TEMPLATE = Path(__file__).with_name("report.html")
ALARMS = {
    "reward": "平均奖励下降",
    "clipping": "被截断的更新过多",
    "value": "价值损失不降",
    "abstaining": "未能评分的过多",
    "copying": "照抄问题增多",
    "idle": "多数组内奖励全等",
    "cut_off": "被截断的回答过多",
    "teacher": "与老师的差距不再缩小",
    "drift": "离老师越来越远",
    "entropy": "回答趋于单一",
    "off_policy": "采样与训练的权重不一致",
}
"""The alarms of a run, whose words are English, by name in Chinese."""
SETTINGS = (
    *("rlhf_type", "model", "adapters", "ref_model", "resume_from_checkpoint", "tuner_type", "lora_rank", "lora_alpha", "torch_dtype"),
    *("quant_bits", "deepspeed", "template", "max_length", "truncation_strategy", "seed", "num_train_epochs"),
    *("max_steps", "learning_rate", "lr_scheduler_type", "warmup_ratio", "weight_decay", "max_grad_norm", "per_device_train_batch_size"),
    *("gradient_accumulation_steps", "global_world_size", "num_generations", "temperature", "top_p", "max_completion_length", "beta"),
    *("epsilon", "num_iterations", "loss_type", "scale_rewards", "reward_funcs", "reward_weights", "kl_coef", "num_ppo_epochs"),
    *("cliprange", "vf_coef", "gamma", "lam", "num_mini_batches", "use_vllm", "eval_strategy", "eval_steps", "swift_version"),
)
"""What of args.json says what was trained and how; the other hundreds of values are ms-swift's own, and may hold tokens."""
_OF_PPO = ("kl_coef", "num_ppo_epochs", "cliprange", "vf_coef", "gamma", "lam", "num_mini_batches")
_OF_LORA = ("lora_rank", "lora_alpha")
_OF_GRPO = ("num_generations", "beta", "epsilon", "num_iterations", "loss_type", "scale_rewards")
_EXAMPLES = 3
_BEFORE = ("SFT", "untrained", "base")
"""The systems that a trained one may have come from: the first that there is. The examples take the teacher where there is none."""
_COPIES = ("copy", "original query", "copy policy")
"""Systems that answer with the question: no example needs them."""


class Live(NamedTuple):
    """Parts of a page that only runs which are still training have."""

    renew: int
    """Seconds after which a browser asks for it again."""
    samples: Mapping[str, Sequence[Mapping[str, Any]]]
    """The last samples of each run."""
    budget: float
    """USD at which a run stops; 0: none."""


def parse(runs: Sequence[str]) -> dict[str, Path]:
    """Return folders by the names that they are to be shown under, of NAME=FOLDER each. Raises BadInput."""
    folders: dict[str, Path] = {}
    for argument in runs:
        name, _, folder = argument.partition("=")
        if not name or not folder:
            raise BadInput(f"--run {argument}: give NAME=FOLDER, the output folder of a training")
        if name in folders:
            raise BadInput(f"--run {argument}: {name} stands twice: give each its own name")
        folders[name] = Path(folder)
    return folders


def write(out: Path, runs: Sequence[str], evaluation: Path | None, tasks: Sequence[Task]) -> int:
    """Write the page of runs, each NAME=FOLDER. Raises BadInput, and what `page` does."""
    write_aside({out: page(parse(runs), evaluation, tasks).encode()})
    print(f"{out}: open it in a browser")
    return 0


def page(runs: Mapping[str, Path], evaluation: Path | None, tasks: Sequence[Task], live: Live | None = None) -> str:
    """The page over runs, by the name to show, and the folder of tools/evaluate.py that compared them; `tasks`: those they may be of.

    `live`: what it holds besides while they train.

    Raises BadInput for a folder that is neither, and when no run has a curve.
    """
    from jinja2 import Template

    if len(runs) > MOST_RUNS:
        raise BadInput(f"{len(runs)} runs cannot be told apart in one plot: name {MOST_RUNS} at most")
    logs = {name: read_log(folder) for name, folder in runs.items()}
    drawn = []
    for panel in panels(sorted({key for rows in logs.values() for row in rows for key in row}), tasks):
        curves = {at: points(rows, panel.names) for at, rows in enumerate(logs.values())}
        long_curves = {at: curve for at, curve in curves.items() if len(curve) > 1}
        # ms-swift's RL logs a held-out loss too, which is 0 or means nothing.
        if long_curves and not (panel.names == ("eval_loss",) and any("reward" in row for rows in logs.values() for row in rows)):
            drawn.append((panel, plot(long_curves), list(long_curves)))
    if not drawn:
        raise BadInput(f"none of {', '.join(map(str, runs.values()))} has two logged steps: is the run still at its beginning?")
    held_out = _held_out(evaluation, list(runs), tasks) if evaluation else None
    return Template(TEMPLATE.read_text(encoding="utf-8"), autoescape=True, trim_blocks=True, lstrip_blocks=True).render(
        drawn=drawn,
        runs=[
            {"name": name, "folder": str(runs[name]), **_facts(rows), **_recipe(runs[name]), **_watched(rows, name, held_out, tasks)}
            for name, rows in logs.items()
        ],
        signs=SIGNS,
        alarms=[(name, alarm, ALARMS.get(alarm["alarm"], "")) for name, folder in runs.items() for alarm in _alarms(folder)],
        held_out=held_out,
        live=live,
    )


def _facts(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How far it came, how long it took, what it asked and cost."""
    seconds = next((float(row["train_runtime"]) for row in reversed(rows) if "train_runtime" in row), None)
    steps = [row["global_step/max_steps"] for row in rows if "global_step/max_steps" in row]
    calls = {service: sum(float(row.get(f"calls/{service}", 0)) for row in rows) for service in ("rag", "judge", "teacher")}
    costs = [float(row["cost/usd_total"]) for row in rows if "cost/usd_total" in row]
    return {
        "steps": str(steps[-1]) if steps else "0",
        "seconds": seconds and f"{seconds:,.0f}",
        "calls": {service: f"{count:,.0f}" for service, count in calls.items() if count},
        "usd": f"{max(costs):.2f}" if costs else None,
    }


def _recipe(folder: Path) -> dict[str, Any]:
    """Settings and data files of a run, by its args.json; empty for a folder without."""
    file = folder / "args.json"
    if not file.is_file():
        return {"settings": {}, "data": []}
    arguments: dict[str, Any] = json.loads(reading(file).read_text(encoding="utf-8"))
    other = {"grpo": _OF_PPO, "ppo": _OF_GRPO}.get(str(arguments.get("rlhf_type")), (*_OF_PPO, *_OF_GRPO))
    other += _OF_LORA if arguments.get("tuner_type") == "full" else ()
    values = {name: arguments.get(name) for name in SETTINGS if name not in other}
    settings = {
        name: ", ".join(map(str, value)) if isinstance(value, list) else value
        for name, value in values.items()
        if value not in (None, [], "")
    }
    return {"settings": settings, "data": [_data(name) for kind in ("dataset", "val_dataset") for name in arguments.get(kind) or []]}


def _data(name: str) -> dict[str, str]:
    """A data file as it is now: rows and the beginning of its SHA-256; neither for what is no file here."""
    file = Path(str(name).split("#")[0])
    if not file.is_file():
        return {"name": str(name)}
    content = file.read_bytes()
    return {"name": str(name), "rows": str(content.count(b"\n")), "sha256": hashlib.sha256(content).hexdigest()[:12]}


def _watched(rows: Sequence[Mapping[str, Any]], name: str, held_out: Mapping[str, Any] | None, tasks: Sequence[Task]) -> dict[str, Any]:
    """What the watch found for a run: findings by sign, signs that are clear, and those that nothing is known of."""
    against = held_out["passed"].get(name) if held_out else None
    signs = watch(rows, tasks, against)
    # Of an SFT there is little to cheat: its page says what was found, and does not list what an SFT never logs.
    trained_by_reward = any("reward" in row for row in rows)
    return {
        "found": {sign: texts for sign, texts in signs.items() if texts},
        "fine": [sign for sign, texts in signs.items() if not texts],
        "unknown": [sign for sign in SIGNS if sign not in signs] if trained_by_reward else [],
    }


def _alarms(folder: Path) -> list[dict[str, Any]]:
    file = folder / "alarms.jsonl"
    return list(filter(None, read_objects(reading(file)))) if file.is_file() else []


def _held_out(folder: Path, runs: Sequence[str], tasks: Sequence[Task]) -> dict[str, Any]:
    """Tables, examples and what each run passed or not, of a folder of tools/evaluate.py."""
    file = folder / "summary.json"
    if not file.is_file():
        raise BadInput(f"{file} does not exist: name the output folder of tools/evaluate.py")
    summary: dict[str, Any] = json.loads(reading(file).read_text(encoding="utf-8"))
    task = task_of(summary, tasks)
    systems = [name for name in summary["means"] if name not in _COPIES]
    details = examples.read_details(folder, systems, task)
    measured = list(dict.fromkeys(name for means in summary["means"].values() for name in means))
    section = {"against": summary["against"], "tables": headline.tables(summary, task), "passed": {}, "examples": None, "fingerprint": ""}
    section["headline"] = promises.in_report(summary.get("headline"))
    if not measured or not details:
        return section
    by = examples.main_measure(measured, task)
    came_from = next((name for name in _BEFORE if name in details), "")
    passed = {
        run: {f"{came_from}, {by}": difference}
        for run in runs
        if came_from and run in details and run != came_from and (difference := examples.difference(details[run], details[came_from], by))
    }
    came_from = came_from or "teacher" * ("teacher" in details)
    ours = summary["against"] or next((name for name in reversed(runs) if name in details), "")
    if ours in details and came_from not in ("", ours):
        # A phone shows three or four answers one under the other; the others stand in the details.
        sides = {name: details[name] for name in dict.fromkeys(("teacher", came_from, *runs, ours)) if name in details}
        best, worst = examples.extremes(sides, ours, came_from, by, task, _EXAMPLES)
        shown = {"best": best, "worst": worst, "ours": ours, "theirs": came_from, "measure": task.metric(by)}
        section |= {"examples": shown}
    return section | {"passed": passed, "fingerprint": examples.fingerprint(details, task)}
