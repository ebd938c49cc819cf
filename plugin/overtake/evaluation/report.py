"""One HTML page for training runs: the held-out table, their curves side by side, their alarms; no network, no script."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from overtake.data.tables import BadInput
from overtake.evaluation.comparing import verdict
from overtake.evaluation.curves import read_log
from overtake.evaluation.statistics import Interval

TEMPLATE = Path(__file__).with_name("report.html")
_SHARE = 15
"""The thick line of a curve is the mean of a fifteenth of its points."""
_COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#7d5ba6", "#8a6d1d")


class Panel(NamedTuple):
    """A plot: what it shows, in English and Chinese, and the names it has in logging.jsonl, by trainer and mode."""

    title: str
    chinese: str
    names: tuple[str, ...]
    says: str = ""
    says_chinese: str = ""


PANELS = (
    Panel("Mean reward", "平均奖励", ("reward",), "should rise", "应上升"),
    Panel(
        "Held-out reward",
        "留出集奖励",
        ("eval_reward",),
        "falling while the reward rises: the reward is being cheated",
        "奖励升而它降：奖励被钻了空子",
    ),
    Panel(
        "Win rate against the teacher",
        "对教师的胜率",
        ("rag/win_rate",),
        "share of rewrites that retrieve better",
        "检索更好的改写所占比例",
    ),
    Panel("Retrieval quality", "检索质量", ("rag/student_quality",), "student's recall lists", "学生的召回列表"),
    Panel("Judge's part", "评审部分", ("rag/judge",), "against retrieval: do both like it?", "与检索对照：二者是否一致"),
    Panel("KL from the reference", "与参考模型的 KL", ("kl", "objective/kl"), "nats a token", "每个 token，nat"),
    Panel("Length", "长度", ("completions/mean_length",), "tokens of a completion", "每个回答的 token 数"),
    Panel("Copies of the question", "照抄问题", ("rewrite/copy",), "share", "比例"),
    Panel("Without a score", "未能评分", ("rag/abstained", "finance/abstained", "medical/abstained"), "share", "比例"),
    Panel(
        "Clipped", "被截断的更新", ("policy/clipfrac_avg", "clip_ratio/region_mean"), "0.1 to 0.3 is usual in PPO", "PPO 通常为 0.1 到 0.3"
    ),
    Panel("Value loss", "价值损失", ("loss/value_avg",), "should fall", "应下降"),
    Panel(
        "Explained variance",
        "解释方差",
        ("val/explained_variance",),
        "of the returns, by the critic: 1 is all",
        "评论家解释的回报方差：1 为全部",
    ),
    Panel("Entropy", "熵", ("policy/entropy_avg",), "nats a token", "每个 token，nat"),
    Panel("Loss", "损失", ("loss",)),
    Panel("Waiting for rewards", "等待奖励", ("wait/seconds",), "seconds between two logs", "两次记录之间的秒数"),
    Panel("Cost", "花费", ("cost/usd_total",), "USD so far", "累计美元"),
)


def points(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[tuple[int, float]]:
    """(step, value) of the first of these names that the log has; what was not measured (NaN) is left out.

    >>> points([{"global_step/max_steps": "1/9", "kl": 0.5}, {"global_step/max_steps": "2/9", "kl": float("nan")}], ["reward", "kl"])
    [(1, 0.5)]
    """
    for name in names:
        found = [(row["global_step/max_steps"], row[name]) for row in rows if name in row and "global_step/max_steps" in row]
        known = [(int(str(step).split("/")[0]), float(value)) for step, value in found if not math.isnan(float(value))]
        if known:
            return known
    return []


def smooth(values: Sequence[float]) -> list[float]:
    """The mean of each value and those before it, of a fifteenth of all.

    >>> smooth([1.0, 3.0] * 15)[:4]
    [1.0, 2.0, 2.0, 2.0]
    """
    width = max(1, len(values) // _SHARE)
    return [sum(values[max(0, at - width + 1) : at + 1]) / min(at + 1, width) for at in range(len(values))]


def plot(lines: Mapping[str, tuple[str, Sequence[tuple[int, float]]]]) -> str:
    """The curves, by name with their colour, as one SVG element."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with pyplot.rc_context({"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9, "svg.hashsalt": "overtake"}):
        figure, axes = pyplot.subplots(figsize=(4.2, 2.4), layout="constrained")
        for colour, curve in lines.values():
            steps, values = [step for step, _ in curve], [value for _, value in curve]
            axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
            axes.plot(steps, smooth(values), color=colour, linewidth=1.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.margins(x=0.01)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    text = written.getvalue()
    return text[text.index("<svg") :]


def page(runs: Mapping[str, Path], evaluation: Path | None) -> str:
    """The page over runs, by the name to show, and the folder of tools/evaluate.py that compared them.

    Raises BadInput for a folder that is neither, and when no run has a curve.
    """
    from jinja2 import Template

    logs = {name: read_log(folder) for name, folder in runs.items()}
    colours = dict(zip(logs, _COLOURS, strict=False))
    if len(logs) > len(_COLOURS):
        raise BadInput(f"{len(logs)} runs cannot be told apart in one plot: name {len(_COLOURS)} at most")
    drawn = []
    for panel in PANELS:
        curves = {name: (colours[name], points(rows, panel.names)) for name, rows in logs.items()}
        told = {name: curve for name, curve in curves.items() if len(curve[1]) > 1}
        if told:
            drawn.append((panel, plot(told), told))
    if not drawn:
        raise BadInput(f"none of {', '.join(map(str, runs.values()))} has two logged steps: is the run still at its beginning?")
    return Template(TEMPLATE.read_text(encoding="utf-8"), autoescape=True).render(
        drawn=drawn,
        colours=colours,
        runs=[{"name": name, "folder": str(runs[name]), "facts": _facts(rows)} for name, rows in logs.items()],
        alarms=[(name, alarm) for name, folder in runs.items() for alarm in _alarms(folder)],
        table=_table(evaluation) if evaluation else None,
    )


def _facts(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    last = next((row for row in reversed(rows) if "train_runtime" in row), None)
    steps = [row["global_step/max_steps"] for row in rows if "global_step/max_steps" in row]
    seconds = f"{float(last['train_runtime']):,.0f} s" if last else "not finished 未结束"
    return {"steps": str(steps[-1]) if steps else "0", "seconds": seconds}


def _alarms(folder: Path) -> list[dict[str, Any]]:
    file = folder / "alarms.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def _table(folder: Path) -> dict[str, Any]:
    file = folder / "summary.json"
    if not file.is_file():
        raise BadInput(f"{file} does not exist: name the output folder of tools/evaluate.py")
    summary: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    shown = list(dict.fromkeys(metric for means in summary["means"].values() for metric in means))
    chances = summary.get("p_holm", {})
    verdicts = {
        name: {metric: verdict(Interval(**one), chances.get(name, {}).get(metric, 0.0)) for metric, one in metrics.items()}
        for name, metrics in summary["differences"].items()
    }
    return {**summary, "metrics": shown, "verdicts": verdicts}
