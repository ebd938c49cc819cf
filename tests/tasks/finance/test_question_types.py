"""The rule for question types on sentences of each type, and on real calculation questions."""

import json

import pytest
from overtake.tasks.finance.question_types import question_type

from ...conftest import SHARED

SENTENCES = [
    ("calculation", "本金10万元，年利率4%，三年单利利息是多少？", "1.2万元"),
    ("calculation", "毛利率提高了几个百分点？", "约3.5个百分点"),
    ("calculation", "What was the change in revenue from 2018 to 2019?", "$(8.6) million"),
    ("calculation", "现有一个期权，波动率45%，请给出理论价格。", "9.36"),
    ("calculation", "存款保险的最高偿付限额是多少？", "50万元"),
    ("concept", "什么是存款准备金？", "商业银行按规定存放在中央银行的资金"),
    ("concept", "下列哪项属于流动资产？A. 存货 B. 厂房", "A"),
    ("concept", "Define working capital.", "current assets less current liabilities"),
    ("analysis", "试分析人民币贬值对出口企业利润的影响。", "短期利好，长期看进口成本"),
    ("analysis", "Compare FIFO with LIFO when prices rise.", "FIFO shows higher profit"),
    ("reasoning", "客户在风险测评中为保守型，客户经理能否向其推荐股票型基金？", "不能"),
    ("reasoning", "为什么久期越长的债券对利率越敏感？", "现金流回收更晚"),
    ("reasoning", "If the central bank sells bonds, what happens to bank reserves?", "they fall"),
]


@pytest.mark.parametrize(("kind", "question", "gold"), SENTENCES)
def test_a_question_has_the_type_that_a_reader_would_give_it(kind, question, gold):
    assert question_type(question, gold) == kind


def test_a_long_explanation_with_a_number_in_it_is_no_calculation():
    gold = "根据2018年的规定，" + "银行应当" * 60
    assert question_type("2018年新规对资本充足率比例有何要求？请分析其影响。", gold) == "analysis"


@pytest.mark.needs_shared
def test_real_calculation_questions_are_told():
    rows = [json.loads(line) for line in (SHARED / "data/finance/disc_finllm_computing_zh.jsonl").open(encoding="utf-8")]
    told = [question_type(row["instruction"], row["output"]) for row in rows]
    assert told.count("calculation") >= 0.98 * len(rows)
