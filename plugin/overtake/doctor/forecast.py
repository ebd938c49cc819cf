"""What a run will ask for and cost, before it is paid: rows x epochs x completions x the judge's share x the price of a verdict."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from overtake import settings
from overtake.doctor.command import Command
from overtake.doctor.findings import Finding
from overtake.doctor.rows import Rows
from overtake.settings import SettingsError
from overtake.task import Reward

_VERDICT = {"prompt_tokens": 400, "completion_tokens": 100}
"""Of a verdict, where none has been paid yet: a rubric, a question and a rewrite; an answer of some length takes more."""
_EACH_MORE = {"prompt_tokens": 50, "completion_tokens": 50}
"""Of each further rewrite in the same call."""


class Asked(NamedTuple):
    """Counts of what a run asks for at most, that is without a cache."""

    completions: int
    retrievals: int
    verdicts: int
    """Calls of the judge."""
    together: int = 1
    """Completions, and with others the teacher's answer, that a call judges."""


def asked(command: Command, rows: int, rewards: Sequence[Reward], train: Rows | None = None) -> Asked:
    """Count a run of GRPO or PPO over so many rows; `train`: they themselves, if known, for not each may be judged.

    Raises BadInput for a flag that is no number.
    """
    group = int(command.number("num_generations", 8)) if command.rl == "grpo" else 1
    completions = int(rows * group * command.number("num_train_epochs", 3))
    if (steps := int(command.number("max_steps", -1))) > 0:
        completions = min(completions, steps * command.update) if rows else steps * command.update
    share = max((judged(reward, train or []) for reward in rewards), default=0.0)
    retrievals = completions if any("retrieval" in reward.asks for reward in rewards) else 0
    together = group > 1 and any(reward.judged_together and settings.value(reward.judged_together) for reward in rewards)
    return Asked(completions, retrievals, round(completions * share / (group if together else 1)), group + 1 if together else 1)


def updates(command: Command, rows: int, completions: int) -> tuple[int, str]:
    """Return (updates of the weights, the arithmetic in words) of a run over so many rows; in RL of so many completions.

    >>> from overtake.doctor.command import parse
    >>> updates(parse("swift sft --num_train_epochs 3 --per_device_train_batch_size 2 --gradient_accumulation_steps 8"), 1000, 0)
    (189, '3 epochs x 1,000 rows in batches of 16')
    """
    batch, epochs = command.update, command.number("num_train_epochs", 3)
    plural = "s" * (epochs != 1)
    if not command.rl:
        if (most := int(command.number("max_steps", -1))) > 0:
            return most, f"--max_steps {most} of {batch} rows"
        return math.ceil(epochs * math.ceil(rows / batch)), f"{epochs:g} epoch{plural} x {rows:,} rows in batches of {batch}"
    group = int(command.number("num_generations", 8))
    words = f"{epochs:g} epoch{plural} x {rows:,} rows x {group} completions, {batch} an update"
    if command.rl != "ppo":
        return math.ceil(completions / batch), words
    parts, passes = int(command.number("num_mini_batches", 1)), int(command.number("num_ppo_epochs", 4))
    rounds = math.ceil(completions / (batch * parts))
    return rounds * parts * passes, f"{words}: {rounds} rounds of {batch * parts}, gone through {passes} times"


def judged(reward: Reward, train: Rows) -> float:
    """Share of the completions on these rows that a reward asks the judge about: by its setting, its weight and the rows' own values.

    Rows that are not there to tell, or lack the column, may be judged.

    >>> reward = Reward("r", "", asks=("judge",), judged="", judged_by="points")
    >>> judged(reward, [{"points": "0"}, {"points": ""}, {"points": None}, {"points": 3}]), judged(reward, [])
    (0.5, 1.0)
    """
    if "judge" not in reward.asks or (reward.judge_weight and not settings.value(reward.judge_weight)):
        return 0.0
    told = [row[reward.judged_by] for row in train if reward.judged_by in row]
    of_rows = sum(str("" if value is None else value).strip() != "" for value in told) / len(told) if told else 1.0
    return of_rows * (float(settings.value(reward.judged)) if reward.judged else 1.0)


def findings(command: Command, rows: int, known_rewards: Mapping[str, Reward], train: Rows) -> Iterator[Finding]:
    """Forecast what the run will ask for and cost, beside the budget; nothing for a run whose rewards ask nobody."""
    rewards = [known_rewards[name] for name in command.flags.get("reward_funcs", []) if name in known_rewards]
    if not command.rl or not any(reward.asks for reward in rewards):
        return
    try:
        count = asked(command, rows, rewards, train)
        price, usd = cost(count.verdicts, count.together)
        budget = settings.load().budget_hard
    except SettingsError:
        return  # said by the check of the settings
    expected_calls = f"{count.completions:,} completions"
    if count.retrievals:
        expected_calls += f", {count.retrievals:,} retrievals"
    expected_calls += f", {count.verdicts:,} verdicts{' on a group each' if count.together > 1 else ''}{price}, less what the cache holds"
    if usd is not None and budget and usd > budget:
        remedy = "raise it, or lower OVERTAKE_JUDGE_SHARE or --num_train_epochs: the run ends where the budget does, with a checkpoint"
        yield Finding("warning", "forecast", f"{expected_calls}; OVERTAKE_BUDGET_HARD is {budget:g} USD", remedy)
        return
    yield Finding("ok", "forecast", f"{expected_calls}; OVERTAKE_BUDGET_HARD is " + (f"{budget:g} USD" if budget else "not set"))


def cost(verdicts: int, together: int) -> tuple[str, float | None]:
    """Return (words for what so many verdicts cost, their USD): by those that the ledger knows, else by the price of the model.

    What the ledger knows is of verdicts on one completion, or of runs before this: a call on a group is always counted by its tokens.
    """
    if not verdicts:
        return "", 0.0
    from overtake.evaluation import costs
    from overtake.remote import budget

    config = settings.load()
    model = config.judge_model or config.teacher_model
    paid = costs.of_ledger("judge")
    tokens = {name: count + (together - 1) * _EACH_MORE[name] for name, count in _VERDICT.items()}
    if "usd_1000" in paid and together == 1:
        each, source = paid["usd_1000"] / 1000, "as the ones in the ledger"
    else:
        guess = budget.price(model, tokens) if model else None
        if guess is None:
            return f" (the price of {model or 'the judge'} is not known)", None
        each, source = guess, f"{model}, {sum(tokens.values())} tokens each"
    hits = costs.hit_rate("judge")
    usd = verdicts * each * (1 - (hits or 0.0))
    rate = "" if hits is None else f" and a cache hit rate of {hits:.0%}"
    return f" = about {usd:,.2f} USD at {each:.5f} USD ({source}){rate}", usd
