"""Money: what a model's tokens cost, what has been spent, and when to stop."""

import asyncio
import logging
import math
import re
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path

from overtake import settings
from overtake.remote.process import loop, once
from overtake.remote.store import Money, store

_log = logging.getLogger("overtake")
_LOOK_SECONDS = 0.05
"""Between two looks at whether requests under way have left money for one that waits."""


def price(model: str, usage: Mapping[str, int], cached_tokens: int = 0) -> float | None:
    """USD for the tokens spent, or None when neither prices.toml nor the settings' own table knows the model.

    `cached_tokens`: of the prompt's tokens those that the provider had in its cache, for which it asks less.

    >>> price("gpt-5-mini", {"prompt_tokens": 1_000_000, "completion_tokens": 0})
    0.25
    >>> price("gpt-5-mini", {"prompt_tokens": 1_000_000, "completion_tokens": 0}, cached_tokens=1_000_000)
    0.025
    >>> price("stand-in", {"prompt_tokens": 10, "completion_tokens": 5}) is None
    True
    """
    rate = _rate(model)
    if rate is None:
        return None
    cached = min(cached_tokens, usage["prompt_tokens"])
    prompt = (usage["prompt_tokens"] - cached) * rate["input"] + cached * rate.get("cached", rate["input"])
    return (prompt + usage["completion_tokens"] * rate["output"]) / 1e6


def batch_share(model: str) -> float:
    """The share of the price that the model's provider asks through its batch API; 1 where none is known.

    >>> batch_share("gpt-5-mini"), batch_share("deepseek-chat"), batch_share("stand-in")
    (0.5, 1.0, 1.0)
    """
    return (_rate(model) or {}).get("batch", 1.0)


@lru_cache(maxsize=64)
def _rate(model: str) -> dict[str, float] | None:
    prices = tomllib.loads(resources.files("overtake.remote").joinpath("prices.toml").read_text(encoding="utf-8")) | _own_prices()
    names = [name for name in prices if re.fullmatch(re.escape(name) + r"(-\d[\d-]*)?", model)]
    return prices[max(names, key=len)] if names else None


def _own_prices() -> dict[str, dict[str, float]]:
    path = settings.load().prices
    if not path:
        return {}
    form = (
        'write a section ["model"] with input = and output =, USD per million tokens, cached = for prompt tokens that the provider has in '
        "its cache, and batch =, the share of it in batches, if any"
    )
    try:
        own = tomllib.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise settings.SettingsError(f"OVERTAKE_PRICES={path} cannot be read ({error}): {form}") from None
    for model, rate in own.items():
        if not isinstance(rate, dict) or not all(
            isinstance(price := ({"batch": 1.0, "cached": 0.0} | rate).get(name), int | float) and 0 <= price < math.inf
            for name in ("input", "output", "batch", "cached")
        ):
            raise settings.SettingsError(f"OVERTAKE_PRICES={path}: [{model}] is {rate}: {form}")
    return own


def check(model: str) -> None:
    """Raise SettingsError when a budget is set that cannot be kept, since the model's price is not known."""
    config = settings.load()
    if (config.budget_soft or config.budget_hard) and _rate(model) is None:
        raise settings.SettingsError(
            f"a budget is set (OVERTAKE_BUDGET_SOFT, OVERTAKE_BUDGET_HARD), but the price of {model} is not known: "
            "name a table of your own prices in OVERTAKE_PRICES, or unset the budget"
        )


def count_for(name: str) -> None:
    """Add what this process spends to the sum of `name`, over restarts, unless the settings name another. To be called at the start."""
    once("budget run", lambda: settings.load().budget_run or name)


def _run() -> str:
    return once("budget run", lambda: settings.load().budget_run)


def refusal(model: str) -> str:
    """Return why no more may be spent on this model, in words; "" while it may. Free services have no model. On the gateway's loop."""
    config = settings.load()
    if not config.budget_hard or not model or _rate(model) is None or _spent() < config.budget_hard:
        return ""
    return f"the budget is spent: {_spent():.2f} of OVERTAKE_BUDGET_HARD={config.budget_hard:g} USD{_of_run()}; raise it to go on"


async def reserve(model: str, usd: float | None) -> str:
    """Reserve what a request is estimated to cost, before it leaves; why it may not leave, in words, "" where it may.

    Where the money would do, were it not for what requests under way may cost, their answers are waited for. On the gateway's loop.
    Raises StoreGone.
    """
    config = settings.load()
    if not config.budget_hard or not usd:
        return refusal(model)
    while not (reason := refusal(model)):
        money = store().reserve(_run(), usd, config.budget_hard) if _run() else None
        if money is None:
            reserved = _state().get("reserved", 0.0)
            money = Money(_spent(), reserved, _spent() + reserved + usd <= config.budget_hard)
        _state()["usd"] = max(_spent(), money.spent)
        if money.granted:
            _state()["reserved"] = _state().get("reserved", 0.0) + usd
            return ""
        if money.spent + usd > config.budget_hard or not money.reserved:
            spent, hard = f"{money.spent:.4g}", f"OVERTAKE_BUDGET_HARD={config.budget_hard:g}"
            return f"the budget is spent: {spent} of {hard} USD{_of_run()}, and this request may cost {usd:.2g}; raise it to go on"
        await asyncio.sleep(_LOOK_SECONDS)
    return reason


def spend(usd: float | None, reserved: float | None = None) -> None:
    """Count what an answer cost, in the place of what was reserved for it. On the gateway's loop."""
    config = settings.load()
    reserved = reserved if config.budget_hard else None
    if not (config.budget_soft or config.budget_hard) or not (usd or reserved):
        return
    spent_here = _spent() + (usd or 0.0)
    total = None
    if reserved:
        _state()["reserved"] = max(_state().get("reserved", 0.0) - reserved, 0.0)
        total = store().settle(_run(), reserved, usd or 0.0) if _run() else None
    elif _run():
        total = store().spend(_run(), usd or 0.0)
    if total is not None and total < spent_here:  # what was lost with a broken file, or could not be written before
        total = store().spend(_run(), spent_here - total)
    _state()["usd"] = max(spent_here, total or 0.0)


def estimated(model: str, usd: float | None) -> None:
    """Say once that a service does not tell what it used, so that the estimate is charged."""
    announced: set[str] = once("estimated", set)
    if usd is not None and model not in announced:
        announced.add(model)
        _log.warning("the service of %s sends no usage: each of its answers is charged at its estimate, this one %.2g USD", model, usd)


def soft_limit_reached(step: int | None = None) -> bool:
    """Tell whether the soft limit is reached: what a run can do without, the judge, is not asked any more. Says so once.

    Ranks learn of the limit at different moments, yet must stop asking at the same step, or members of one group would be scored
    by two formulas: so the first to notice appoints the step after its own.
    """
    config = settings.load()
    if not config.budget_soft:
        return False

    async def quiet() -> bool:
        await store().reachable()
        if _spent(again=True) < config.budget_soft:
            return False
        following = 0 if step is None else step + 1
        noted = store().quiet_from(_run(), following) if _run() else None
        first = _state().setdefault("quiet_from", following) if noted is None else noted
        if not _state().get("said"):
            _state()["said"] = 1.0
            message = "%.2f USD spent%s, OVERTAKE_BUDGET_SOFT=%g: the judge abstains from here on"
            _log.warning(message, _spent(), _of_run(), config.budget_soft)
        return step is None or step >= first

    return asyncio.run_coroutine_threadsafe(quiet(), loop()).result()


def _state() -> dict[str, float]:
    return once("spent", dict)


def _spent(again: bool = False) -> float:
    """USD spent as far as this process knows: other ranks' and earlier starts' included, as of its last paid answer, or `again`."""
    state = _state()
    if "usd" not in state or again:
        total = store().spend(_run(), 0.0) if _run() else None
        state["usd"] = max(state.get("usd", 0.0), total or 0.0)
    return state["usd"]


def _of_run() -> str:
    return f" by {_run()}" if _run() else ""
