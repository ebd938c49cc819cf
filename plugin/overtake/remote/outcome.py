"""Reading of a JSON answer under HTTP 200, whether it says of itself that it failed: services name success and failure in many ways."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

Outcome = Literal["failed", "done", "unclear", ""]

_FLAGS = {"success", "successful", "issuccess", "succeeded", "succeed", "ok", "isok"}
_CODES = {"code", "status", "statuscode", "state", "retcode", "ret", "returncode", "resultcode", "rescode", "respcode", "bizcode", "result"}
_ERROR_CODES = {"errcode", "errorcode", "errno", "errorno"}
"""Here any number but 0 and 200 is an error's."""
_ERRORS = {"error", "errors", "err", "errmsg", "errormsg", "errormessage", "exception", "iserror", "haserror", "failed", "timedout"}
_WORDS = {"message", "msg", "detail", "reason", "statusmsg", "statusmessage", "info", "description", "desc"}
_PARTS = {"data", "result", "status", "state", "meta", "header", "head", "baseresp", "response", "output"}
"""Where services put their own outcome, if not beside the data."""
_DEPTH = 3

_DONE = re.compile(
    r"(ok(ay)?|succ|done|completed?|finished|normal|healthy|true|yes|y|pass(ed)?|good|none|null|nil|[a-z]?0+|正常|完成|无)[.!。！]?",
    re.IGNORECASE,
)
_NOT_DONE = re.compile(r"(no|n|false|err|nok|ng|ko|down|busy)[.!]?|.*\b[45]\d\d\b.*", re.IGNORECASE)
_FAILED = re.compile(
    r"error|fail|fatal|exception|time.?d?.?out|unavailab|denied|forbid|unauthori|invalid|refus|reject|abort|overload|too (many|busy)|crash"
    r"|panic|unsuccess|corrupt|broken|disconnect|\b(server|service|engine|index|database) (is )?(down|busy|offline)"
    r"|not (a )?(success|ok\b|ready|loaded|available|initial|found|support|exist|respond|reachable)|unreachable"
    r"|失败|错误|异常|超时|不可用|拒绝|繁忙|未加载|未就绪|未授权|未初始化|不成功|未成功|限流|熔断|故障|宕机|不存在|无权|无法",
    re.IGNORECASE,
)
_NEGATED = re.compile(r"\b(no|0|zero|without)( \w+)? (error|failure|exception|timeout)s?|(无|没有)(任何)?(错误|异常|失败)", re.IGNORECASE)
_SUCCEEDED = re.compile(r"succe(ss|ed)|\bok(ay)?\b|complete|成功|完成", re.IGNORECASE)
_IN_PART = re.compile(r"partial|degrad|incomplete|部分|降级", re.IGNORECASE)
_NOTHING_FOUND = re.compile(
    r"\b(no|0|zero|without)( \w+){0,2} (result|document|doc|hit|match|record|content|passage|answer)"
    r"|nothing( was| is)? (found|matched|relevant)|(没有|未|无)(能)?(找到|检索到|查询到|查到|命中|匹配)?(到)?(任何)?"
    r"(相关|匹配|符合条件)?的?(文档|结果|内容|数据|记录|知识|答案)",
    re.IGNORECASE,
)


def outcome(answer: Mapping[str, Any], *, empty: bool) -> Outcome:
    """Return what an answer says of itself: "failed", "done", "unclear" (words or numbers that mean neither), or "" where it says nothing.

    `empty`: it holds no data, so that a message beside it counts too: "es timeout" is a failure, "no results" none.

    >>> outcome({"success": False, "data": {}}, empty=True), outcome({"code": "00000", "msg": "success"}, empty=True)
    ('failed', 'done')
    >>> outcome({"code": 20000}, empty=True), outcome({"data": {}}, empty=True)
    ('unclear', '')
    """
    present = set(_signs(answer, empty, _DEPTH))
    signs: tuple[Outcome, ...] = ("failed", "done", "unclear")
    return next((sign for sign in signs if sign in present), "")


def _signs(answer: Mapping[str, Any], empty: bool, depth: int) -> Iterator[Outcome]:
    for key, value in answer.items():
        name = re.sub("[^a-z]", "", str(key).casefold())
        if isinstance(value, Mapping) and name in _PARTS and depth:
            yield from _signs(value, empty, depth - 1)
        elif name in _FLAGS:
            yield _of_flag(value)
        elif name in _ERRORS:
            yield _of_error(value)
        elif name in _ERROR_CODES:
            yield "failed" if (of := _of_code(value)) == "unclear" else of
        elif name in _CODES and not isinstance(value, list | Mapping):
            yield _of_code(value)
        elif name in _WORDS and empty and isinstance(value, str):
            yield _of_words(value)


def _of_flag(value: Any) -> Outcome:
    """Of `success` and its like, where 1 is yes and 0 is no."""
    if isinstance(value, str):
        value = {"1": True, "0": False}.get(value.strip(), value)
    elif value in (0, 1) and not isinstance(value, bool):
        value = bool(value)
    return _of_code(value) if isinstance(value, bool | int | float | str) else ""


def _of_code(value: Any) -> Outcome:
    """Of a status or code: 0 and 2xx are success, 4xx, 5xx and negative numbers failure, other numbers a matter of the service."""
    if isinstance(value, bool):
        return "done" if value else "failed"
    if value is None or value == "":
        return ""
    text = str(value).strip()
    if re.fullmatch(r"[+-]?\d{1,18}(\.0+)?", text):
        number = int(float(text))
        if number == 0 or 200 <= number < 300:
            return "done"
        return "failed" if number < 0 or 400 <= number < 600 else "unclear"
    spaced = re.sub(r"[_\W]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)).strip()
    return "failed" if _NOT_DONE.fullmatch(spaced) else _of_words(spaced) or "unclear"


def _of_error(value: Any) -> Outcome:
    """Of a field that is there for errors: anything but nothing, zero and a word for none or success."""
    if isinstance(value, Mapping):
        signs = set(_signs(value, True, _DEPTH))
        return "" if not any(value.values()) or ("done" in signs and "failed" not in signs) else "failed"
    if not value or (isinstance(value, list) and not any(value)):
        return ""
    none = isinstance(value, str) and value.strip().casefold() in ("false", "no", "n", "0")
    return "" if none or (not isinstance(value, bool) and _of_code(value) == "done") else "failed"


def _of_words(value: str) -> Outcome:
    text = _NEGATED.sub("", value.strip())
    if _DONE.fullmatch(text) or _NOTHING_FOUND.search(text):
        return "done"
    if _FAILED.search(text):
        return "failed"
    return "done" if not _IN_PART.search(text) and (_SUCCEEDED.search(text) or text != value.strip()) else ""
