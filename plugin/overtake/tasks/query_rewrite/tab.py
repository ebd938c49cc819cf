"""What there is to see of a rewrite: the documents that it finds beside those of the question, and on demand what the judge says."""

from overtake import settings
from overtake.cli import Abort
from overtake.remote import rag
from overtake.remote.gateway import Ok
from overtake.task import Line, Part, Row
from overtake.tasks.query_rewrite.columns import HISTORY, KB, PROFILE, QUERY, TENANT
from overtake.tasks.query_rewrite.judge import judge_call, judge_gateway, verdict
from overtake.tasks.query_rewrite.unwrapping import sendable


def recall(row: Row, text: str, threshold: float | None = None) -> tuple[list[rag.Hit], dict[str, str]]:
    """(what a text finds for the question, titles by document); nothing for what no retriever takes. Raises Abort, SettingsError."""
    if not sendable(text).strip():
        return [], {}
    call = rag.rag_call(row[QUERY], text, row[TENANT], row.get(KB) or "default", score_threshold=threshold, titled=True)
    (result,) = rag.rag_gateway().run([call])
    if not isinstance(result, Ok):
        raise Abort(result.reason)
    return rag.hits(result.value), result.value["titles"]


def cut_off(row: Row, text: str) -> int:
    """Count the documents of the list that the threshold keeps from sight."""
    return len(recall(row, text, 0.0)[0]) - len(recall(row, text)[0])


def parts(row: Row, answer: str) -> list[Part]:
    """The rewrite, its documents with scores and how they moved, and how many the threshold cut off."""
    before = [hit.doc_id for hit in recall(row, row[QUERY])[0]]
    hits, titles = recall(row, answer)
    lines = [_line(hit, rank, before, titles, moved=answer != row[QUERY]) for rank, hit in enumerate(hits)]
    if not lines:
        lines.append(Line("", "nothing found", "没有找到文档"))
    if lost := [name for name in before if name and name not in {hit.doc_id for hit in hits}]:
        lines.append(Line(", ".join(lost), "no longer found", "不再召回"))
    if (count := cut_off(row, answer)) > 0:
        least = f"{settings.load().rag_score_threshold:g}"
        lines.append(Line("", f"{count} more below the threshold {least}", f"另有 {count} 篇低于阈值 {least}"))
    return [Part("Sent to the retriever", "送去检索的文本", answer), Part("Documents", "文档", lines=tuple(lines))]


def judge(row: Row, answer: str) -> list[Part]:
    """Points and reason. Raises Abort, SettingsError."""
    (result,) = judge_gateway().run([judge_call(row[QUERY], answer, row.get(PROFILE, ""), row.get(HISTORY, ""))])
    if not isinstance(result, Ok):
        raise Abort(result.reason)
    given = verdict(result.value)
    return [Part("Judge", "评审", lines=(Line(given.reason, f"{given.score:g} of 5", f"{given.score:g} / 5"),))]


def _line(hit: rag.Hit, rank: int, before: list[str | None], titles: dict[str, str], moved: bool) -> Line:
    name = hit.doc_id or "?"
    text = f"{titles[name]} ({name})" if titles.get(name, name) != name else name
    en = zh = f"{hit.score:.2f}"
    if moved and hit.doc_id not in before:
        return Line(text, f"{en}, new", f"{zh}，新增")
    if moved and (up := before.index(hit.doc_id) - rank):
        return Line(text, f"{en}, {'up' if up > 0 else 'down'} {abs(up)}", f"{zh}，{'升' if up > 0 else '降'} {abs(up)} 位")
    return Line(text, en, zh)
