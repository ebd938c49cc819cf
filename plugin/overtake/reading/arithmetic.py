"""Arithmetic as people write it beside an answer, calculated exactly in Decimal; nothing is ever evaluated as code."""

import re
import unicodedata
from decimal import Decimal, DecimalException, localcontext

from overtake.reading.units import scale_at

_LONGEST = 500
_DEEPEST = 30
_MOST_EXPONENT = 1000
_TOKEN = re.compile(r"\s*(?:(\d[\d,]*(?:\.\d+)?|\.\d+)|(\*\*|//|[-+*/^()%]))")
_SIGNS = str.maketrans({"×": "*", "÷": "/", "−": "-", "–": "-", "—": "-", "[": "(", "]": ")", "〔": "(", "〕": ")", "【": "(", "】": ")"})


def calculate(expression: str, *, accounting: bool = False) -> Decimal:
    """The value of an expression of numbers, + - * / // ^ ** %, brackets of any kind, ×, ÷ and scales (60.3 million); % is a hundredth.

    `accounting`: a number alone in brackets behind + or - is negative, as in an accountant's table: 3 + (13) is -10.
    Raises ValueError for anything else, for a division by zero, and beyond 500 characters, 30 brackets and exponents of 1,000.

    >>> calculate("(44.1-56.7)/56.7 * 100"), calculate("10944÷〔1＋20.9％〕"), calculate("-114 - (71)", accounting=True)
    (Decimal('-22.222222222222222222222222222'), Decimal('9052.1091811414392059553349876'), Decimal('-43'))
    """
    if len(expression) > _LONGEST:
        raise ValueError(f"an expression of {len(expression)} characters, more than {_LONGEST}: {expression[:80]!r}…")
    text = unicodedata.normalize("NFKC", expression).translate(_SIGNS).replace("$", "").replace("¥", "")
    try:
        with localcontext() as context:
            context.prec = 29
            return _Reader(_tokens(text), accounting).whole()
    except (DecimalException, IndexError, OverflowError) as error:
        raise ValueError(f"no expression that has a value ({type(error).__name__}): {expression[:80]!r}") from None


def _tokens(text: str) -> list[Decimal | str]:
    tokens: list[Decimal | str] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        token = _TOKEN.match(text, at)
        if not token:
            raise ValueError(f"neither a number nor an operator at {text[at : at + 20]!r} of {text[:80]!r}")
        at = token.end()
        if token[1]:
            scale, at = scale_at(text, at)
            tokens.append(Decimal(token[1].replace(",", "")) * scale)
        else:
            tokens.append({"**": "^"}.get(token[2], token[2]))
    return tokens


class _Reader:
    """Recursive descent: a sum of products of powers; the state is the place among the tokens."""

    def __init__(self, tokens: list[Decimal | str], accounting: bool) -> None:
        self.tokens = tokens
        self.accounting = accounting
        self.at = 0
        self.depth = 0

    def whole(self) -> Decimal:
        value = self.sum()
        if self.at < len(self.tokens):
            raise ValueError(f"{self.tokens[self.at]} stands where an operator is due")
        if not value.is_finite():
            raise ValueError("zero to a negative power")
        return value

    def next_is(self, signs: str) -> str:
        token = self.tokens[self.at] if self.at < len(self.tokens) else ""
        if isinstance(token, str) and token and token in signs.split():
            self.at += 1
            return token
        return ""

    def sum(self) -> Decimal:
        value = self.product()
        while sign := self.next_is("+ -"):
            bracketed = self.accounting and self.is_bracketed_number()
            other = self.product()
            other = -abs(other) if bracketed else other
            value = value + other if sign == "+" else value - other
        return value

    def is_bracketed_number(self) -> bool:
        ahead = self.tokens[self.at : self.at + 4]
        closed = len(ahead) >= 3 and ahead[0] == "(" and isinstance(ahead[1], Decimal) and ahead[2] == ")"
        return closed and (len(ahead) == 3 or ahead[3] in ("+", "-", ")"))

    def product(self) -> Decimal:
        value = self.power()
        while sign := self.next_is("* / //"):
            other = self.power()
            value = value * other if sign == "*" else value / other if sign == "/" else value // other
        return value

    def power(self) -> Decimal:
        if sign := self.next_is("+ -"):
            self.deeper()
            value = self.power()
            self.depth -= 1
            return -value if sign == "-" else value
        value = self.atom()
        while self.next_is("%"):
            value /= 100
        if self.next_is("^"):
            self.deeper()
            exponent = self.power()
            self.depth -= 1
            if abs(exponent) > _MOST_EXPONENT:
                raise ValueError(f"an exponent of {exponent}, beyond {_MOST_EXPONENT}")
            value = value**exponent
        return value

    def atom(self) -> Decimal:
        if self.next_is("("):
            self.deeper()
            value = self.sum()
            self.depth -= 1
            if not self.next_is(")"):
                raise ValueError("a bracket is not closed")
            return value
        token = self.tokens[self.at]
        if isinstance(token, str):
            raise ValueError(f"{token} stands where a number is due")
        self.at += 1
        return token

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ValueError(f"more than {_DEEPEST} levels of brackets and signs")
