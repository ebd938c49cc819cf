"""A real call to each service that a run's rewards ask, and what only a longer look at its rows tells."""

from overtake import settings
from overtake.doctor import rows
from overtake.doctor.command import Command
from overtake.doctor.findings import Finding
from overtake.settings import SettingsError


def services(command: Command, no_judge: bool = False) -> list[Finding]:
    """A real call to each service that the rewards ask, and near-copies of held-out questions."""
    rewards = command.flags.get("reward_funcs", [])
    found: list[Finding] = []
    if any(name in rows.NEED_RAG for name in rewards):
        found += _rag(command)
    words = "finance_accuracy" in rewards and settings.load().finance_judge_share > 0
    if not no_judge and (words or any(name in rows.NEED_JUDGE for name in rewards)):
        found += _chat("judge")
    paths = rows.files(command.flags.get("dataset", []))
    asked = [text for path in paths for row in rows.read(path) if (text := rows.question(row))]
    held_out = [
        text for path in rows.files(command.flags.get("val_dataset", [])) for row in rows.read(path) if (text := rows.question(row))
    ]
    if asked and held_out:
        from overtake.data.near_duplicates import overlaps

        near = [twin for twin in overlaps(asked, held_out) if not twin.exact]
        if near:
            first = f"{asked[near[0].place][:30]} / {held_out[near[0].of][:30]}"
            remedy = "read them: what nearly repeats a held-out question makes the measurement kinder"
            found.append(Finding("warning", "leak", f"{len(near)} questions come near to a held-out one, e.g. {first}", remedy))
    return found


def _chat(role: str) -> list[Finding]:
    from overtake.remote import chat
    from overtake.remote.gateway import Ok
    from overtake.tasks.query_rewrite.judge import judge_call

    try:
        to = chat.endpoint(role)
        call = judge_call("胶原蛋白怎么吃", "胶原蛋白肽 食用方法", to)
        call.cached = False
        result = chat.chat_gateway(role).run([call])[0]
    except SettingsError as error:
        return [Finding("error", role, str(error), "set it as it says, or go on without: --no-judge")]
    rules = ", ".join(chat.parameters(to.model, 1, 0.0))
    if isinstance(result, Ok):
        return [Finding("ok", role, f"{to.model} answers with a verdict; asked with {rules}")]
    remedy = "see to its address, model and key, or set OVERTAKE_JUDGE_SHARE=0"
    return [Finding("error", role, f"{to!r}, asked with {rules}: {result.reason}", remedy)]


def _rag(command: Command) -> list[Finding]:
    from overtake.remote import rag
    from overtake.remote.gateway import Ok

    asked = [row for path in rows.files(command.flags.get("dataset", [])) for row in rows.read(path) if row.get("rag_query")]
    if not asked:
        return []
    row = asked[0]
    here = (str(row.get("rag_tenant") or ""), str(row.get("rag_kb") or "default"))
    texts = (str(row["rag_query"]), str(row.get("rag_teacher_rewrite") or row["rag_query"]))
    try:
        calls = [rag.rag_call(texts[0], text, *here, top_k=20, labelled=True) for text in texts]
        for call in calls:
            call.cached = False
        results = rag.rag_gateway().run(calls)
    except SettingsError as error:
        return [Finding("error", "RAG service", str(error), "set it as it says")]
    for result in results:
        if not isinstance(result, Ok):
            return [Finding("error", "RAG service", result.reason, f"see to it, to tenant {here[0]!r} and to kb {here[1]!r}")]
    first, second = ({hit.doc_id: hit.score for hit in rag.hits(result.value)} for result in results if isinstance(result, Ok))
    moved = [doc for doc in first.keys() & second.keys() if doc and abs(first[doc] - second[doc]) > 1e-6]
    if moved and not row.get("rag_gold"):
        remedy = "let it rerank on the original query, or give rag_gold: else the policy wins by quoting documents"
        return [Finding("error", "RAG service", f"the score of {moved[0]} depends on the rewrite", remedy)]
    if not first and not second:
        return [Finding("warning", "RAG service", f"recalls nothing for {texts[0][:30]}", f"is tenant {here[0]!r} the right one?")]
    return [Finding("ok", "RAG service", f"recalls {len(second)} documents; a document's score does not depend on the rewrite")]
