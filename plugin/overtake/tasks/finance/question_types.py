"""Types of financial questions, told by rule: calculation, concept, analysis or reasoning."""

import re

_NUMBER = r"[-+−(（]?\s*[$¥￥€£]?\s*\d[\d,，.]*\s*[)）]?"
_UNIT = r"(?:%|％|‰|个?百分点|个|倍|天|日|年|月|次|股|份|人|户|[千万百十亿]*(?:美元|欧元|港元|人民币|元|吨|件)?|[A-Za-z$€£/ ]{0,24})"
_ONE_NUMBER = re.compile(rf"(?:约|大约|about|approximately|≈|=)?\s*{_NUMBER}\s*{_UNIT}[。.]?", re.IGNORECASE)
_CHOICE = re.compile(r"[A-H](?:[、,，\s]*[A-H])*[.。]?")
_ASKS_NUMBER = re.compile(
    r"计算|求(?!职|助|救)|多少|百分之几|百分比|比重|比例|几(?!乎|何|率)|等于|价格|"
    r"how (?:much|many)|calculate|compute|\b(?:percent(?:age)?|proportion|ratio|sum|average|total|difference|change|value|amount)\b",
    re.IGNORECASE,
)
_ASKS_ANALYSIS = re.compile(
    r"分析|评价|评估|试述|详述|比较|对比|有何影响|什么影响|哪些影响|利弊|优缺点|优劣|如何看待|提出.{0,8}建议|给出.{0,8}建议|"
    r"analy[sz]e|evaluate|assess|discuss|compare|contrast|impact|implications?|pros and cons|advantages and disadvantages|recommend",
    re.IGNORECASE,
)
_ASKS_REASON = re.compile(
    r"为什么|为何|原因|推断|推理|判断|是否|能否|可否|合规|违反|如果|若|假设|假如|应当如何|应如何|"
    r"\bwhy\b|infer|deduce|determine whether|\bwhether\b|\bif\b|suppose|assume|compl(?:y|iant|iance)|violat",
    re.IGNORECASE,
)
_ASKS_CONCEPT = re.compile(
    r"什么是|是什么|指的是|是指|定义|含义|概念|名词解释|何谓|属于|包括|哪(?:个|种|一|些|项)|下列|以下|特点|特征|作用|用途|由谁|"
    r"what (?:is|are|does)|define|definition|meaning|which of the following|which|explain the (?:term|concept)",
    re.IGNORECASE,
)

_END = 60


def question_type(question: str, gold: str) -> str:
    """The type of a question; the first of these rules that fits says it.

    1. The gold answer is one number with its unit; or it ends (its last 60 characters) with a number in it, and the question gives
       numbers and asks for a quantity: calculation.
    2. It asks to analyse, evaluate, compare or advise: analysis.
    3. It asks why or whether, or sets a condition to conclude from: reasoning.
    4. It asks what something is, means or belongs to, or to pick it from a list: concept.
    5. Anything else: reasoning where it tells a case (over 120 characters), concept where it does not.

    >>> question_type("2023年收入1000万元，比上年增长25%，2022年收入是多少？", "800万元")
    'calculation'
    >>> question_type("什么是市盈率？", "股价与每股收益之比")
    'concept'
    >>> question_type("请分析加息对银行净息差的影响。", "先扩大后收窄")
    'analysis'
    >>> question_type("如果央行提高存款准备金率，市场上的货币会怎样变化？", "减少")
    'reasoning'
    """
    answer = gold.strip()
    if _ONE_NUMBER.fullmatch(answer):
        return "calculation"
    if _ASKS_NUMBER.search(question) and re.search(r"\d", question) and re.search(r"\d", answer[-_END:]):
        return "calculation"
    if _ASKS_ANALYSIS.search(question) and not _CHOICE.fullmatch(answer):
        return "analysis"
    if _ASKS_REASON.search(question):
        return "reasoning"
    if _ASKS_CONCEPT.search(question):
        return "concept"
    return "reasoning" if len(question) > 120 else "concept"
