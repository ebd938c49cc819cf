"""What is calculated, what is refused, and that nothing takes long or runs as code."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from overtake.reading.arithmetic import calculate

VALUES = [
    ("44.1-56.7", "-12.6"),
    ("2 + 3 * 4", "14"),
    ("-2^2", "-4"),
    ("2**3**2", "512"),
    ("(13,535+13,264)/2", "13399.5"),
    ("[(166+178)/2] - [(57+44)/2]", "121.5"),
    ("$166.3-$513.3", "-347.0"),
    ("1,000/10%", "10000"),
    ("21.0% - 20%", "0.010"),
    ("1098×3", "3294"),
    ("〔3003.1－2154〕÷〔32－9＋2〕", "33.964"),
    ("60.3 million + 32,137 thousand", "92437000.0"),
    ("7//2", "3"),
    ("5 - (3)", "2"),
    ("-5,637-(-3,990)", "-1647"),
]


@pytest.mark.parametrize(("expression", "value"), VALUES)
def test_values(expression, value):
    assert calculate(expression) == Decimal(value)


@pytest.mark.parametrize(
    ("expression", "value"), [("3 + (13) + 26", "16"), ("-114 - (71)", "-43"), ("93/(2)", "46.5"), ("(5)", "5"), ("8 - (3+1)", "4")]
)
def test_an_accountants_bracket_is_a_minus_in_a_sum_alone(expression, value):
    assert calculate(expression, accounting=True) == Decimal(value)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "2+",
        "(2",
        "2)",
        "1/0",
        "x+1",
        "2 3",
        "__import__('os')",
        "9**9**9",
        "1" * 501,
        "(" * 31 + "1" + ")" * 31,
        "-" * 40 + "1",
        "0^-1",
        "%",
    ],
)
def test_what_has_no_value_is_refused(expression):
    with pytest.raises(ValueError):
        calculate(expression)


@given(st.text(alphabet="0123456789.,+-*/^()%[]$× e", max_size=40))
def test_any_text_is_calculated_or_refused(text):
    try:
        assert isinstance(calculate(text), Decimal)
    except ValueError as error:
        assert str(error)
