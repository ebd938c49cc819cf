"""A sentence that refuses to rewrite or to answer, told from a question about refusing."""

import re

from overtake.reading.normal_forms import half_width

_CANNOT = "(?:无法|不能|没法|没办法|不可以|不便|不方便|不会|拒绝|无权|难以|暂不|不予)"
_SERVE = (
    "(?:回答|提供|协助|帮助|帮到|满足|改写|重写|处理|完成|生成|讨论|答复|回应|给出|支持|参与|继续|执行|理解|这样做|办到|"
    "[给为](?:您|你).{0,4}(?:回答|提供|改写|处理|生成|解答))"
)
_CANT = (
    "(?:can['’]?t|cannot|can not|won['’]?t|will not|unable to|not able to|not allowed to|not permitted to|"
    "(?:must |have to )?(?:decline|refuse) to|do(?:n['’]?t| not) feel comfortable|not comfortable)"
)
_HELP = (
    "(?:help|assist|answer|provide|fulfil|comply|rewrit|process|discuss|respond|do (?:this|that)|continue|support|"
    "engage|generate|create|complete|offer|give|that|this|with|request)"
)
_SORRY = re.compile(
    r"^\W*(?:(?:非常|十分|很|真的?|实在)?(?:抱歉|对不起|遗憾)|不好意思)(?=\W*(?:[我本该这您你无不没未由但暂目让给听恕]|作为|$))"
    r"|^\W*(?:(?:i['’]?m|i am|we are|we['’]re) )?(?:very |so |really |terribly )?(?:sorry|afraid)\b"
    r"(?=\W*(?:i|we|but|no|this|that|to|as|for the|about (?:that|this|the))\b|\W*$)"
    r"|^\W*(?:i |we |my )?apolog(?:i[sz]e|ies)|^\W*unfortunately\b",
)
_REFUSAL = re.compile(
    rf"^\W*(?:作为|身为).{{0,16}}(?:ai|人工智能|模型|助手).{{0,20}}{_CANNOT}"
    rf"|^\W*(?:我|本人|本模型|本助手|本系统|该助手).{{0,6}}{_CANNOT}(?:对此|就此|为此|向您|向你|再|直接|继续|帮您|帮你)?{_SERVE}"
    rf"|^\W*(?:您的?|你的?|这|该|此|上述|本)[个类条次]?(?:问题|请求|要求|内容|提问|话题).{{0,12}}"
    rf"(?:{_CANNOT}{_SERVE}|违反|违规|违法|敏感|不合规|不符合|超出)"
    rf"|^\W*(?:恕|暂时|目前|现在)?我?{_CANNOT}(?:回答|改写|处理|协助|满足|完成|提供)(?:\W*$|这|该|此|您|你|本)"
    r"|^\W*无可奉告|^\W*我(?:没有|不具备|缺乏)(?:这个)?能力|^\W*我不太?(?:清楚|知道|了解|理解|明白)(?:这|该|您|你)|^\W*我只是.{0,8}(?:ai|模型|助手|程序)"
    r"|^\W*请您?先?(?:提供|输入|补充|告知|给出)(?:需要|要|您|你|具体|更多|待|完整).{0,12}(?:问题|信息|内容|查询|语句|文本)"
    r"|^\W*(?:您的?|你的?|该|此)?(?:输入|内容|请求|问题)(?:中|里)?(?:包含|涉及|含有|存在|属于)?.{0,4}(?:违规|违法|敏感|不当|不合规|有害)"
    rf"|^\W*(?:as )?(?:an? )?(?:ai|(?:large )?language model|assistant)\b.{{0,40}}\b{_CANT}"
    rf"|^\W*(?:i|we)(?: really| simply| just)?(?: am| are|['’]m|['’]re)? ?{_CANT}(?=.{{0,30}}\b{_HELP})"
    r"|^\W*(?:i|we) (?:must|have to) (?:decline|refuse)"
    r"|^\W*i (?:do not|don['’]?t) have (?:enough|sufficient|any) (?:information|context|details)"
    r"|^\W*(?:please|could you(?: please)?|can you(?: please)?) (?:provide|share|clarify|specify)\b"
    r"|^\W*error\b\s*:|^\W*content (?:filter|policy|blocked)"
    rf"|^\W*(?:this|your|the) (?:request|question|query|content|prompt|topic)\b.{{0,30}}\b(?:violates?|against|{_CANT}|inappropriate)"
)
_ASKED = re.compile(r"[?？]|怎么|如何|什么|哪|是否|能否|吗|多少|为何|咋|啥|谁\b|\b(?:how|what|why|which|where|who|when)\b")


def is_refusal(text: str) -> bool:
    """Return whether `text` refuses instead of rewriting; a question about refusing, or one that begins with an apology's word, does not.

    >>> is_refusal("I'm sorry, but I can't help with that."), is_refusal("抱歉信怎么写"), is_refusal("我无法怀孕怎么办")
    (True, False, False)
    """
    opening = half_width(text.replace("\n", " ")).casefold()[:400]
    if _SORRY.search(opening):
        return not _ASKED.search(opening)
    match = _REFUSAL.search(opening)
    return bool(match) and not _ASKED.search(opening[match.end() if match else 0 :])
