"""The kinds of computed problems in the finance sample: how each gets its numbers, and its gold in exact decimals."""

import random
import re
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


class Kind(NamedTuple):
    """Recipe of one kind of problem: how it gets its numbers and its answer."""

    draw: Callable[[random.Random], dict[str, Decimal]]
    gold: Callable[[dict[str, Decimal]], Decimal]
    zh: str
    en: str
    """The answer with its unit: {} is the number, {u} the unit of money."""


def _amount(rng: random.Random) -> Decimal:
    """A round amount from 20 to 250: small numbers, so that a tiny student can learn to work with them."""
    return Decimal(10 * rng.randint(2, 25))


def _percent(rng: random.Random, *choices: int) -> Decimal:
    return Decimal(rng.choice(choices or (5, 10, 20, 25, 30, 40, 50, 60, 75, 80)))


def _growth(rng: random.Random) -> dict[str, Decimal]:
    a = _amount(rng)
    return {"a": a, "b": a + a * _percent(rng) / 100}


def _base_year(rng: random.Random) -> dict[str, Decimal]:
    p = _percent(rng, 5, 10, 20, 25, 40, 50, 60)
    return {"b": _amount(rng) * (100 + p) / 100, "p": p}


def _margin(rng: random.Random) -> dict[str, Decimal]:
    r = _amount(rng)
    return {"r": r, "c": r - r * _percent(rng) / 100}


def _current_ratio(rng: random.Random) -> dict[str, Decimal]:
    y = _amount(rng)
    return {"x": y * rng.choice([5, 8, 12, 15, 16, 20, 25, 30, 40]) / 10, "y": y}


def _npv(rng: random.Random) -> dict[str, Decimal]:
    p, present = _percent(rng, 5, 10, 20, 25), _amount(rng)
    return {"i": present - min(present - 10, Decimal(rng.choice([-20, -10, 10, 20, 30, 40, 50]))), "c": present * (100 + p) / 100, "p": p}


def _simple_interest(rng: random.Random) -> dict[str, Decimal]:
    return {"m": _amount(rng), "p": _percent(rng, 2, 4, 5, 6, 8, 10), "t": Decimal(rng.randint(2, 5))}


def _compound_interest(rng: random.Random) -> dict[str, Decimal]:
    return {"m": Decimal(100 * rng.randint(1, 30)), "p": _percent(rng, 10, 20, 30, 40, 50)}


def _break_even(rng: random.Random) -> dict[str, Decimal]:
    v, gain = Decimal(rng.randint(2, 20)), Decimal(rng.randint(2, 10))
    return {"f": gain * _amount(rng), "s": v + gain, "v": v}


def _eps(rng: random.Random) -> dict[str, Decimal]:
    h = _amount(rng)
    return {"n": h * rng.choice([2, 4, 5, 6, 8, 12, 15, 20]) / 10, "h": h}


def _pe(rng: random.Random) -> dict[str, Decimal]:
    e = Decimal(rng.choice(["0.5", "1.5", "2", "2.5", "3", "4", "5"]))
    return {"s": e * rng.randint(4, 30), "e": e}


def _roe(rng: random.Random) -> dict[str, Decimal]:
    q = _amount(rng)
    return {"n": q * _percent(rng) / 100, "q": q}


def _depreciation(rng: random.Random) -> dict[str, Decimal]:
    t, g = Decimal(rng.randint(2, 6)), Decimal(10 * rng.randint(1, 5))
    return {"k": g + t * 10 * rng.randint(2, 15), "g": g, "t": t}


def _tax(rng: random.Random) -> dict[str, Decimal]:
    return {"b": _amount(rng), "p": _percent(rng, 5, 10, 15, 20, 25, 30, 40)}


def _share_points(rng: random.Random) -> dict[str, Decimal]:
    p = Decimal(rng.randint(5, 40))
    return {"p": p, "q": p + rng.randint(2, 20)}


def _currency(rng: random.Random) -> dict[str, Decimal]:
    return {"m": _amount(rng), "x": Decimal(rng.choice(["6.8", "6.9", "7", "7.1", "7.2", "7.4", "7.5", "8"]))}


KINDS = {
    "growth": Kind(_growth, lambda n: (n["b"] - n["a"]) / n["a"] * 100, "{}%", "{}%"),
    "base_year": Kind(_base_year, lambda n: n["b"] / (1 + n["p"] / 100), "{}{u}", "{} {u}"),
    "margin": Kind(_margin, lambda n: (1 - n["c"] / n["r"]) * 100, "{}%", "{}%"),
    "current_ratio": Kind(_current_ratio, lambda n: n["x"] / n["y"], "{}", "{}"),
    "npv": Kind(_npv, lambda n: n["c"] / (1 + n["p"] / 100) - n["i"], "{}{u}", "{} {u}"),
    "simple_interest": Kind(_simple_interest, lambda n: n["m"] * n["p"] * n["t"] / 100, "{}{u}", "{} {u}"),
    "compound_interest": Kind(_compound_interest, lambda n: n["m"] * (1 + n["p"] / 100) ** 2, "{}{u}", "{} {u}"),
    "break_even": Kind(_break_even, lambda n: n["f"] / (n["s"] - n["v"]), "{}件", "{} units"),
    "eps": Kind(_eps, lambda n: n["n"] / n["h"], "{}元", "{} yuan"),
    "pe": Kind(_pe, lambda n: n["s"] / n["e"], "{}倍", "{} times"),
    "roe": Kind(_roe, lambda n: n["n"] / n["q"] * 100, "{}%", "{}%"),
    "depreciation": Kind(_depreciation, lambda n: (n["k"] - n["g"]) / n["t"], "{}{u}", "{} {u}"),
    "tax": Kind(_tax, lambda n: n["b"] * n["p"] / 100, "{}{u}", "{} {u}"),
    "share_points": Kind(_share_points, lambda n: n["q"] - n["p"], "{}个百分点", "{} percentage points"),
    "currency": Kind(_currency, lambda n: n["m"] * n["x"], "{}元", "{} yuan"),
}


def plain(number: Decimal) -> str:
    """A number without exponent and trailing zeros.

    >>> plain(Decimal("8E+2")), plain(Decimal("2.50")), plain(Decimal("-0"))
    ('800', '2.5', '0')
    """
    text = f"{number:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def numbers_of(question: str) -> tuple[str, ...]:
    """The numbers of a question, sorted; the 1 of an exchange rate's "1美元" is none of them.

    >>> numbers_of("1美元兑7.2元人民币，90美元可兑换多少元？")
    ('7.2', '90')
    """
    return tuple(sorted(_NUMBER.findall(question.replace("1美元", "美元"))))
