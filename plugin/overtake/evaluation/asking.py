"""One question put to a served model, with the prompt of training: the answer in full."""

import argparse

from overtake import settings
from overtake.cli import Abort
from overtake.data.tables import BadInput
from overtake.evaluation.students import from_endpoint
from overtake.task import Task


def add_arguments(parser: argparse.ArgumentParser, task: Task) -> None:
    """The options that every task has: the model and where it is served."""
    parser.add_argument("--model", default=task.served, help="the name it is served under (default %(default)s)")
    parser.add_argument("--base-url", default=f"http://127.0.0.1:{task.port}/v1", help="default %(default)s")


def answer(task: Task, args: argparse.Namespace, row: dict[str, str], what: str) -> str:
    """The model's answer to a row of the task; `what` it is, in a word.

    Raises Abort when there is none, BadInput for a row without a prompt.
    """
    try:
        messages, thinks = task.evaluation.messages(row), task.decoding.thinks(row)
    except ValueError as error:
        raise BadInput(str(error)) from None
    key = settings.student_keys([args.base_url])[args.base_url]
    answers = from_endpoint(args.model, args.base_url, key, [messages], task.decoding.limit, [thinks])[0]
    if not answers:
        raise Abort(f"{args.model} at {args.base_url} gave no {what}, though it answered: ask in other words or train it longer")
    return answers


class Asking:
    """Prints the model's whole answer, and what there is to see of it; what a task's prompt needs beside the question is an option."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """The options of the task."""
        for name in self.task.evaluation.texts[1:]:
            parser.add_argument(f"--{name.replace('_', '-')}", dest=name, default="", help=f"as the column {name} of its rows")
        add_arguments(parser, self.task)

    def work(self, args: argparse.Namespace) -> int:
        """Ask and print."""
        first, *others = self.task.evaluation.texts
        row = {first: args.question, **{name: getattr(args, name) for name in others}}
        text = answer(self.task, args, row, "solution")
        print(f"question: {args.question}\n{text}")
        for part in self.task.tab.parts(row, text) if self.task.tab else ():
            # The text itself stands above.
            said = [f"  {' '.join(filter(None, (line.text, line.en)))}" for line in part.lines]
            if said and not part.folded:
                print("\n".join([f"{part.en}:", *said]))
        return 0
