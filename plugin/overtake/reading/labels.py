"""Labels before a text ("改写后的问题：", "Rewritten query:"), told by the words that they are made of, not by a list of labels."""

import re

import regex

_STRONG = "改写|重写|重述|优化|润色|转写|扩写|精炼"
"""Words that a question has no use for right before a colon; so they make a label in mid-line too."""
_CORE = (
    f"{_STRONG}|检索|查询|搜索|搜寻|关键[词字]|问[题句]|提问|语句|表[述达]|答案|回答|回复|输出|结果|以下|下面|如下|"
    "(?:rewr|rephras|reformulat|quer|question|keyword|search|output|answer|result)[a-z]*|here"
)
_AROUND = (
    "[搜检查][索询][词式串]|句子|短语|版本?|内容|文[本字]|信息|建议|推荐|扩展|规范化?|标准化?|专业化?|精简|简化|处理|生成|原始?|最终|用户|"
    "改进|修[改正]|调整|完善|转[换化]|更新|整理|提炼|概括|重新|组织|专业|准确|更|"
    "[根依]据(?:您|你|用户|以上|上述)?的?(?:要求|需求|问题|提问)|"
    r"好的|可以|当然|没问题|[之过]?后|前|已|新|的|是|为|成|我|您|你|给出?|一[个句]|这|就|[词句式问用答]|应该?|\d{1,2}|[一二三]|"
    "(?:revis|optimi[sz]|improv|refin|expand|enhanc|retriev|sentence|version|suggest)[a-z]*|professional|final|new|text|is|are|the|your|my|this|"
    "it|better|for|of|sure|ok(?:ay)?|original|user|certainly|you|there|go|s|an?|q"
)
_MARK = " \t_*#`\"'“”‘’「」『』【】()（）〔〕[]<>,，.。!！-"
_MARKS = f"[{re.escape(_MARK)}]*+"
_LABEL = regex.compile(rf"{_MARKS}((?>(?>{_CORE}|{_AROUND}){_MARKS}){{1,16}}+)", regex.IGNORECASE)
_END = re.compile(r"[:：](?:\*\*|__)?[】\])）]?\s*|(?=\n)\s*|\s*(?:[—–]+|[-=]*>|→|⇒)\s*")
_ACKNOWLEDGED = re.compile(r"(?:好的|可以|当然(?:可以)?|没问题|收到|明白|sure|ok(?:ay)?|certainly|of course)", re.IGNORECASE)
_NAMED = re.compile(r"后.*(?:问题|问句|查询|语句|检索|搜索|表述)|(?:rewritten|rephrased|revised).*(?:query|question)", re.IGNORECASE)
_SAYS = re.compile(r"(?:[是为]|如下|\bis)$", re.IGNORECASE)
_HAS_CORE = re.compile(_CORE, re.IGNORECASE)
_INSIDE = re.compile(
    rf"(?:{_STRONG})(?:之?后)?(?:的?(?:检索|查询|搜索)?(?:问[题句]|语句|句子|关键[词字]|文本|结果|内容|版本|[词式串]|查询|检索|搜索))?(?:如下|[为是])?\s{{0,4}}[:：]"
    r"|\b(?:rewritten|rephrased|reformulated|rewrite|revised)(?: (?:search|user|final))?(?: (?:query|question|text|version|sentence))?"
    r"(?: is)?\s{0,4}[:：]",
    re.IGNORECASE,
)


def label_end(text: str) -> int:
    """Return where the label that `text` begins with ends, markup and white space behind it included; 0 for none.

    A label is made of words about rewriting, asking and answering and of nothing else, up to a colon, a closing bracket, a dash
    or the end of its line; where it says "is", up to a quote.

    >>> text = "**优化后的 检索问题**：胶原蛋白肽"
    >>> text[label_end(text):], label_end("问题肌肤：怎么修复"), label_end("Here is the rewritten query:\\nx")
    ('胶原蛋白肽', 0, 29)
    """
    match = _LABEL.match(text)
    if not match:
        return 0
    if _ACKNOWLEDGED.fullmatch(match[1].strip(_MARK)) and text[match.end() : match.end() + 1] == "\n":
        return match.end() + 1
    if not (_HAS_CORE.search(match[1]) or match[1].strip(_MARK).casefold() in ("q", "a", "问", "答")):
        return 0
    if end := _END.match(text, match.end()):
        return end.end()
    label = match[1].rstrip(_MARK)
    marks = match[1][len(label) :]
    if set(marks) & set("】]"):
        return match.end()
    if _SAYS.search(label) and _NAMED.search(label):
        return match.start(1) + len(label) + len(marks) - len(marks.lstrip())
    quoted = min((marks.find(quote) for quote in '"“「『' if quote in marks), default=-1)
    return match.start(1) + len(label) + quoted if quoted >= 0 and _SAYS.search(label) else 0


def label_inside(text: str) -> str:
    """The first label of a rewrite that stands anywhere in `text`, "" for none.

    >>> label_inside("胶原蛋白肽 改写后的问题：皮肤松弛"), label_inside("常见问题：用法")
    ('改写后的问题：', '')
    """
    match = _INSIDE.search(text)
    return match[0] if match else ""
