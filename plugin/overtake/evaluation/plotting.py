"""The curves of a report: which there are, by the names that each trainer logs them under, and each as an SVG in the page's own colours."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from overtake.task import Panel, Task

_SHARE = 15
"""The thick line of a curve is the mean of a fifteenth of its points."""
_FEW = 25
"""Up to so many points each is marked: evaluations."""
MOST_RUNS = 5
_INK = "#123456"
_COLOURS = tuple(f"#{at}{at}{at}abc" for at in range(1, MOST_RUNS + 1))
"""What matplotlib is told: the page's style sheet names the real ones, which differ by light and dark."""


_REWARD = (
    Panel("Mean reward", "平均奖励", ("reward",), "in training: should rise", "训练中：应上升"),
    Panel(
        "Held-out reward",
        "留出集奖励",
        ("eval_reward",),
        "falling while the reward rises: the reward is being cheated",
        "奖励升而它降：奖励被钻了空子",
    ),
)
_OTHER = (
    Panel("KL from the reference", "与参考模型的 KL", ("kl", "objective/kl"), "nats a token", "每个 token，nat"),
    Panel("Length", "长度", ("completions/mean_length",), "tokens of a completion", "每个回答的 token 数"),
    Panel("Cut off", "被截断的回答", ("completions/clipped_ratio",), "share that ends at the length limit", "到达长度上限的比例"),
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
    Panel("Held-out loss", "留出集损失", ("eval_loss",), "of SFT: should fall", "SFT：应下降"),
    Panel("Waiting for rewards", "等待奖励", ("wait/seconds",), "seconds between two logs", "两次记录之间的秒数"),
    Panel("Cost", "花费", ("cost/usd_total",), "USD so far", "累计美元"),
)


def panels(names: Sequence[str], tasks: Sequence[Task]) -> list[Panel]:
    """Every plot there may be in a page of runs that log these names: of the reward and its parts, then the tasks', then any run's.

    Panels of one title are one plot.
    """
    rewards = sorted({match[1] for name in names if (match := re.fullmatch(r"rewards/(.+)/mean", name))})
    parts = [
        Panel(f"Reward {reward}", f"奖励 {reward}", (f"rewards/{reward}/mean",), "its mean, unweighted", "均值，未加权")
        for reward in rewards
    ]
    abstained = tuple(sorted(name for name in names if name.endswith("/abstained") and not name.startswith("eval_")))
    unscored = [Panel("Without a score", "未能评分", abstained, "share", "比例")] if abstained else []
    by_title: dict[str, Panel] = {}
    for panel in [*_REWARD, *(parts if len(parts) > 1 else []), *(extra for task in tasks for extra in task.panels), *unscored, *_OTHER]:
        same = by_title.get(panel.title)
        by_title[panel.title] = replace(same, names=(*same.names, *panel.names)) if same else panel
    return list(by_title.values())


def points(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[tuple[int, float]]:
    """Return (step, value) of the first of these names that the log has; what was not measured (NaN) is left out.

    >>> points([{"global_step/max_steps": "1/9", "kl": 0.5}, {"global_step/max_steps": "2/9", "kl": float("nan")}], ["reward", "kl"])
    [(1, 0.5)]
    """
    for name in names:
        logged = [(row["global_step/max_steps"], row[name]) for row in rows if name in row and "global_step/max_steps" in row]
        finite = [(int(str(step).split("/")[0]), float(value)) for step, value in logged if not math.isnan(float(value))]
        if finite:
            return finite
    return []


def smooth(values: Sequence[float]) -> list[float]:
    """The mean of each value and those before it, of a fifteenth of all.

    >>> smooth([1.0, 3.0] * 15)[:4]
    [1.0, 2.0, 2.0, 2.0]
    """
    width = max(1, len(values) // _SHARE)
    return [sum(values[max(0, at - width + 1) : at + 1]) / min(at + 1, width) for at in range(len(values))]


def plot(curves: Mapping[int, Sequence[tuple[int, float]]]) -> str:
    """The curves, by the place of their run, as one SVG element; run N has the CSS colour `--run-N`, all text the page's own."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot, ticker

    style: dict[Any, Any] = {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9, "svg.hashsalt": "overtake"}
    style |= dict.fromkeys(("text.color", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), _INK)
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(figsize=(4.2, 2.4), layout="constrained")
        figure.patch.set_alpha(0)
        axes.patch.set_alpha(0)
        for at, curve in curves.items():
            steps, values = [step for step, _ in curve], [value for _, value in curve]
            axes.plot(steps, values, color=_COLOURS[at], alpha=0.3, linewidth=0.8)
            axes.plot(steps, smooth(values), color=_COLOURS[at], linewidth=1.8, marker="o" if len(values) <= _FEW else "", markersize=3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.2)
        axes.margins(x=0.01)
        axes.xaxis.set_major_locator(ticker.MaxNLocator("auto", integer=True))
        svg = io.StringIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    text = svg.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    for at, colour in enumerate(_COLOURS):
        text = text.replace(colour, f"var(--run-{at})")
    return text
