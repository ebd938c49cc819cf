"""Query rewriting: the rewrite of a question, and what it finds beside what the question finds.

python tools/ask.py "脸上松松垮垮的，一天吃多少？" --tenant fivedoctors --model query-rewrite --base-url http://127.0.0.1:8000/v1
"""

import argparse

from overtake import settings
from overtake.cli import Abort
from overtake.data.tables import BadInput
from overtake.evaluation import asking
from overtake.remote import rag
from overtake.remote.gateway import Gateway, Ok
from overtake.tasks.query_rewrite import TASK, prompts
from overtake.tasks.query_rewrite.columns import HISTORY, PROFILE, QUERY, TENANT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this task."""
    parser.add_argument("--tenant", help=f"one of {', '.join(prompts.tenants())}")
    parser.add_argument("--kb-name", default="default")
    parser.add_argument("--profile", default="", help="user profile, if any")
    parser.add_argument("--history", default="", help="history summary, if any")
    asking.add_arguments(parser, TASK)


def work(args: argparse.Namespace) -> int:
    """Print the rewrite and both recall lists.

    Raises Abort when the model or the retriever does not answer, BadInput for a tenant without a prompt.
    """
    if not args.tenant:
        raise BadInput(f"whose prompt is meant? Give --tenant, one of {', '.join(prompts.tenants())}")
    retriever = rag.rag_gateway()
    row = {TENANT: args.tenant, QUERY: args.question, PROFILE: args.profile, HISTORY: args.history}
    rewrite = asking.answer(TASK, args, row, "rewrite")
    print(f"question: {args.question}\nrewrite:  {rewrite}")
    for name, text in (("question", args.question), ("rewrite", rewrite)):
        above_threshold, whole = (_recall(retriever, args, text, threshold) for threshold in (None, 0.0))
        listed = ", ".join(f"{hit.doc_id} ({hit.score:.2f})" for hit in above_threshold) or "nothing"
        print(f"the {name} finds: {listed}{_cut_off(len(whole) - len(above_threshold))}")
    return 0


def _recall(retriever: Gateway, args: argparse.Namespace, text: str, threshold: float | None) -> list[rag.Hit]:
    (result,) = retriever.run([rag.rag_call(args.question, text, args.tenant, args.kb_name, score_threshold=threshold)])
    if not isinstance(result, Ok):
        raise Abort(result.reason)
    return rag.hits(result.value)


def _cut_off(count: int) -> str:
    """What the threshold keeps from sight, in words; "" where it keeps nothing."""
    return f"; {count} more below OVERTAKE_RAG_SCORE_THRESHOLD={settings.load().rag_score_threshold:g}" if count > 0 else ""
