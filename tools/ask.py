"""Ask one question through a served model: the rewrite, and what it finds beside what the question finds; or a problem's solution.

    python tools/ask.py "脸上松松垮垮的，一天吃多少？" --tenant fivedoctors --model query-rewrite --base-url http://127.0.0.1:8000/v1
    python tools/ask.py "收入1000万元，比上年增长25%，上年收入多少？" --task finance

The prompt is the one of training. A key, where the model asks for one, is read from OVERTAKE_STUDENT_API_KEY.
"""

import argparse
import sys

from overtake import settings
from overtake.cli import Stop, run
from overtake.data.tables import BadInput
from overtake.evaluation.students import from_endpoint
from overtake.remote import rag
from overtake.remote.gateway import Ok
from overtake.tasks.finance.evaluate import MAX_NEW_TOKENS
from overtake.tasks.finance.prompts import finance_messages
from overtake.tasks.query_rewrite import prompts


def solve(arguments: argparse.Namespace) -> int:
    """Print a problem's solution. Raises Stop when the model does not answer."""
    model = arguments.model or "finance"
    key = settings.api_key("OVERTAKE_STUDENT_API_KEY")
    messages = finance_messages(arguments.question)
    solution = from_endpoint(model, arguments.base_url, key, [messages], MAX_NEW_TOKENS, whole=True)[0]
    if not solution:
        raise Stop(f"{model} at {arguments.base_url} gave no solution, though it answered: ask in other words or train it longer")
    print(f"question: {arguments.question}\n{solution}")
    return 0


def ask(arguments: argparse.Namespace) -> int:
    """Print the rewrite and both recall lists.

    Raises Stop when the model or the retriever does not answer, BadInput for a tenant without a prompt.
    """
    if not arguments.tenant:
        raise BadInput(f"whose prompt is meant? Give --tenant, one of {', '.join(prompts.tenants())}; or --task finance")
    arguments.model = arguments.model or "query-rewrite"
    try:
        messages = prompts.rewrite_messages(arguments.tenant, arguments.question, arguments.profile, arguments.history)
    except ValueError as error:
        raise BadInput(str(error)) from None
    retriever = rag.rag_gateway()
    key = settings.api_key("OVERTAKE_STUDENT_API_KEY")
    rewrite = from_endpoint(arguments.model, arguments.base_url, key, [messages])[0]
    if not rewrite:
        raise Stop(f"{arguments.model} at {arguments.base_url} gave no rewrite, though it answered: ask in other words or train it longer")
    print(f"question: {arguments.question}\nrewrite:  {rewrite}")
    calls = [rag.rag_call(arguments.question, text, arguments.tenant, arguments.kb_name) for text in (arguments.question, rewrite)]
    for name, result in zip(("question", "rewrite"), retriever.run(calls), strict=True):
        if not isinstance(result, Ok):
            raise Stop(result.reason)
        found = ", ".join(f"{hit.doc_id} ({hit.score:.2f})" for hit in rag.hits(result.value)) or "nothing"
        print(f"the {name} finds: {found}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question")
    parser.add_argument("--task", choices=("query_rewrite", "finance"), default="query_rewrite")
    parser.add_argument("--tenant", help=f"of query rewriting: one of {', '.join(prompts.tenants())}")
    parser.add_argument("--kb-name", default="default")
    parser.add_argument("--profile", default="", help="user profile, if any")
    parser.add_argument("--history", default="", help="history summary, if any")
    parser.add_argument("--model", help="the name it is served under (default: query-rewrite or finance)")
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    arguments = parser.parse_args(argv)
    return run(lambda: (solve if arguments.task == "finance" else ask)(arguments))


if __name__ == "__main__":
    sys.exit(main())
