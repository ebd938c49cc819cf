"""Query rewriting: the rewrite of a question, and what it finds beside what the question finds.

python tools/ask.py "脸上松松垮垮的，一天吃多少？" --tenant fivedoctors --model query-rewrite --base-url http://127.0.0.1:8000/v1
"""

import argparse

from overtake import settings
from overtake.data.tables import BadInput
from overtake.evaluation import asking
from overtake.remote import rag
from overtake.tasks.query_rewrite import TASK, prompts, tab
from overtake.tasks.query_rewrite.columns import HISTORY, KB, PROFILE, QUERY, TENANT


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
    rag.rag_gateway()  # what is not set is said before the model is asked
    row = {TENANT: args.tenant, QUERY: args.question, PROFILE: args.profile, HISTORY: args.history, KB: args.kb_name}
    rewrite = asking.answer(TASK, args, row, "rewrite")
    print(f"question: {args.question}\nrewrite:  {rewrite}")
    for name, text in (("question", args.question), ("rewrite", rewrite)):
        hits, _ = tab.recall(row, text)
        listed = ", ".join(f"{hit.doc_id} ({hit.score:.2f})" for hit in hits) or "nothing"
        print(f"the {name} finds: {listed}{_cut_off(tab.cut_off(row, text))}")
    return 0


def _cut_off(count: int) -> str:
    """What the threshold keeps from sight, in words; "" where it keeps nothing."""
    return f"; {count} more below OVERTAKE_RAG_SCORE_THRESHOLD={settings.load().rag_score_threshold:g}" if count > 0 else ""
