"""Query rewriting: rows as the teacher's tool writes them -> messages and the reward columns.

Files made by tools/convert.py need none of this: their rows hold `messages` and the `rag_*` columns already, and ms-swift passes both
through (`--dataset train.jsonl`). This is for a table that was not converted, named after a colon:

    swift rlhf --rlhf_type grpo --external_plugins plugin/register.py --dataset overtake/query_rewrite:my/rewrites.xlsx ...

jsonl, json, csv, parquet or xlsx; a `#500` behind it samples. Columns: original_query, rewritten_query, tenant_id, and if there are any
user_profile, history_summary, kb_name. What convert.py computes once (recall, verdict, gold) is empty here, so RagCompetition asks for
the teacher's recall live and leaves the judge out.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from swift.dataset import DatasetMeta

from overtake.data import files
from overtake.data.cells import cells, plain
from overtake.tasks.query_rewrite import prompts
from overtake.tasks.query_rewrite.rows import RewriteRow

NEEDED = ("original_query", "rewritten_query")


def to_sample(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Turn one row into messages and text columns for the rewards; None for a row without a rewrite, which is no example of anything.

    >>> row = {"original_query": "皮肤没弹性吃啥", "rewritten_query": "胶原蛋白肽 功效", "tenant_id": "fivedoctors"}
    >>> sample = to_sample(row)
    >>> [message["role"] for message in sample["messages"]], sample["rag_query"], sample["rag_kb"]
    (['system', 'user', 'assistant'], '皮肤没弹性吃啥', 'default')

    Raises ValueError naming the column that is missing or holds no text, and for a tenant without a prompt.
    """
    missing = [name for name in (*NEEDED, "tenant_id") if name not in row]
    if missing:
        raise ValueError(f'no column {", ".join(missing)}: there are {", ".join(row)}; rename them with --columns \'{{"old": "new"}}\'')
    text = {name: value.strip() for name, value in cells(row).items()}
    for name in (*NEEDED, "user_profile", "history_summary"):
        try:
            text[name] = plain(text.get(name, "")).strip()
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    query, rewrite, tenant = text["original_query"], text["rewritten_query"], text["tenant_id"]
    if not query or not rewrite:
        return None
    profile, history = text["user_profile"], text["history_summary"]
    messages = [*prompts.rewrite_messages(tenant, query, profile, history), {"role": "assistant", "content": rewrite}]
    query_id = hashlib.sha256("\n".join((tenant, query, profile, history)).encode()).hexdigest()[:16]
    rewrite_row = RewriteRow(query_id, query, tenant, text.get("kb_name", "") or "default", profile, history, teacher_rewrite=rewrite)
    return {"messages": messages, **rewrite_row.to_columns()}


def query_rewrite() -> DatasetMeta:
    """Return what is registered as `overtake/query_rewrite`."""
    return files.dataset_meta("overtake/query_rewrite", to_sample)
