"""Serve the mock teacher, where there is no key for a teacher: POST /v1/chat/completions, GET /v1/models, GET /health.

    python -m demo.serve_teacher datasets/query_rewrite/fivedoctors datasets/query_rewrite/chengla --port 8901
    python -m demo.serve_teacher default=kb/statutes --hold-out kb/held_out.txt
    python -m demo.serve_teacher --judged datasets/judge
    python -m demo.serve_teacher --finance datasets/finance
    export OVERTAKE_TEACHER_BASE_URL=http://127.0.0.1:8901/v1 OVERTAKE_TEACHER_MODEL=overtake-stand-in

It is no model: demo/README.md says what it does. Each KB is a folder (corpus.jsonl and, if there are, lexicon.tsv and
labels) or a .jsonl file, as PATH or tenant=PATH; the tenant is that of prompts/rewrite_<tenant>.txt, and `default` serves any. Labels come
from qrels/train.tsv, never from another split; from a single qrels.tsv only when --hold-out names the questions to leave out. Ends with
0 on SIGTERM and 130 on Ctrl-C.
"""

import argparse
import sys
from pathlib import Path

import yaml
from fastapi import FastAPI
from overtake.retrieval import serving, stores
from overtake.retrieval.corpus import read_queries

from demo.mock_teacher.answers import Grader
from demo.mock_teacher.finance import Solver
from demo.mock_teacher.rewriting import Rewriter, read_labels
from demo.mock_teacher.service import NAME, create_app


def held_out(path: Path | None, folders: list[Path]) -> set[str]:
    """The question ids of a text file, one a line. Raises ValueError when one is of no question in any of the folders."""
    if path is None:
        return set()
    ids = set(path.read_text(encoding="utf-8-sig").split())
    if not ids:
        raise ValueError(f"--hold-out {path}: no id in it: write one a line")
    known = {key for folder in folders if (folder / "queries.jsonl").is_file() for key in read_queries(folder)}
    if unknown := sorted(ids - known):
        raise ValueError(f"--hold-out {path}: {unknown[0]!r} is the id of no question ({len(unknown)} such): correct the file")
    return ids


def rewriters(arguments: list[str], hold_out: Path | None) -> tuple[dict[str, Rewriter], list[str]]:
    """(rewriters by tenant, a line for each that says what it uses). Raises ValueError for input that cannot be served."""
    bases = stores.load(arguments)
    paths = dict(stores.named(argument) for argument in arguments)
    ids = held_out(hold_out, list(paths.values()))
    by_tenant: dict[str, Rewriter] = {}
    lines = []
    for key, base in bases.items():
        tenant, path = key[0], paths[key]
        if tenant in by_tenant:
            raise ValueError(f"tenant {tenant!r} has two knowledge bases: a prompt names the tenant only, give one")
        labels = read_labels(path, ids) if path.is_dir() else {}
        by_tenant[tenant] = Rewriter(base, labels)
        says = f"{len(base)} documents, {len(base.lexicon)} lexicon entries, {by_tenant[tenant].labelled} labelled questions"
        if not labels and (path / "qrels.tsv").is_file():
            says += " (its qrels.tsv is not used: name the held-out ids with --hold-out)"
        lines.append(f"  {tenant}: {says}")
    return by_tenant, lines


def read_grader(folder: Path) -> Grader:
    """The grader of a judge's sample. Raises ValueError for a folder that holds none."""
    try:
        return Grader(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"--judged {folder} is no judge's sample ({error!r}): make it with demo/samples/make_judge_sample.py") from None


def read_solver(folder: Path) -> Solver:
    """The solver of a finance sample. Raises ValueError for a folder without a readable source.yaml."""
    try:
        return Solver(yaml.safe_load((folder / "source.yaml").read_text(encoding="utf-8")))
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ValueError(f"--finance {folder / 'source.yaml'} is no source of a finance sample ({error!r})") from None


def main(argv: list[str] | None = None) -> int:
    """Serve until a signal ends it; 2 for input that cannot be served."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    serving.add_arguments(parser, port=8901, bases="*")
    parser.add_argument("--judged", type=Path, metavar="FOLDER", help="answer and grade the questions of this judge's sample")
    parser.add_argument("--finance", type=Path, metavar="FOLDER", help="solve what this folder's source.yaml teaches")
    parser.add_argument("--hold-out", type=Path, metavar="FILE", help="question ids, one a line, whose labels are not used")
    parser.add_argument("--judge-tenant", help="whose knowledge base judges (default: the one that knows the question's words best)")
    parser.add_argument("--api-key-env", metavar="NAME", help="variable that holds the key which requests must bring (default: none asked)")
    options = parser.parse_args(argv)

    def make() -> tuple[FastAPI, str]:
        key = serving.key_of("--api-key-env", options.api_key_env)
        serving.refuse_strangers(options, keyed=bool(key))
        if not (options.kb or options.judged or options.finance):
            raise ValueError("nothing to serve: name a knowledge base, --judged datasets/judge or --finance datasets/finance")
        by_tenant, lines = rewriters(options.kb, options.hold_out)
        grader = read_grader(options.judged) if options.judged else None
        if grader:
            lines.append(f"  judge: {grader.facts} questions that it can answer")
        solver = read_solver(options.finance) if options.finance else None
        if solver:
            lines.append(f"  finance: {solver.sentences} sentences that it can read")
        banner = f"serving {{url}}/v1: {NAME}, no model but a mock teacher (rewrites picked by retrieval, verdicts by rules)"
        return create_app(by_tenant, options.judge_tenant, key, grader, solver), "\n".join([banner, *lines])

    return serving.run(options, make)


if __name__ == "__main__":
    sys.exit(main())
