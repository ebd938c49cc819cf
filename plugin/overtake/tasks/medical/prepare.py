"""The medical files: which questions are used, which side of the split each falls on, and the data card."""

import argparse
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles

from overtake import cli
from overtake.data import near_duplicates, tables
from overtake.data.splits import shuffled
from overtake.data.tables import BadInput
from overtake.tasks.medical import book as medical_book
from overtake.tasks.medical import rows as medical
from overtake.tasks.medical.columns import OWED
from overtake.tasks.medical.rewards import medical_rules
from overtake.tasks.medical.rows import Item, Row, Source

SIDES = ("train", "dev", "test", "gold_set", "red_team")
_GOLD_MOST = 200
_LEAST = 10


def usable(sources: Sequence[Source], red: Sequence[Source]) -> list[Item]:
    """All items but repeated questions and unsafe answers, which are counted in their source; the red team's come first."""
    items: list[Item] = []
    questions: set[str] = set()
    for source in (*red, *sources):
        for item in source.items:
            reason = "same_question" if item.med_id in questions else ""
            if not reason and source not in red and (rule := medical_rules.unsafe(item.asked, item.answer)):
                reason = f"answer_breaks_{rule}"
            if reason:
                source.left_out[reason] += 1
            else:
                questions.add(item.med_id)
                items.append(item)
    return items


def draw(items: Sequence[Item], marked: set[str], shares: dict[str, float], seed: int) -> tuple[list[str], list[int]]:
    """Return (the side of each item, its group of near-duplicates), a group always on one side; `marked` are the ids given as red team.

    The red team gets, of the groups that hold a high-risk question, the share `red_team`; half of each kind is held out
    ("red_team/held_out"). Of the others dev, which needs answers, and test are drawn, then gold from those whose answers keep every rule.
    """
    groups = near_duplicates.groups([item.asked for item in items])
    members: dict[int, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        members[group].append(place)
    for places in members.values():
        places.sort(key=lambda place: items[place].med_id)  # so that the order of rows changes nothing
    order = sorted(members, key=lambda group: items[members[group][0]].med_id)
    side: dict[int, str] = {}

    def of(group: int) -> list[Item]:
        return [items[place] for place in members[group]]

    def drawn(among: Sequence[int], count: int, what: str) -> list[int]:
        """So many groups without a side, in an order of their own for each draw, or one draw would bias the next."""
        return shuffled([group for group in among if group not in side], f"{seed}/{what}")[: max(0, count)]

    red_marked = [group for group in order if any(item.med_id in marked for item in of(group))]
    risky: dict[str, list[int]] = defaultdict(list)
    for group in order:
        if group not in red_marked and (kinds := [item.risk for item in of(group) if item.risk]):
            risky[kinds[0]].append(group)
    red = red_marked + [
        group for kind, at_risk in risky.items() for group in drawn(at_risk, round(len(at_risk) * shares["red_team"]), kind)
    ]
    by_kind: dict[str, list[int]] = defaultdict(list)
    for group in red:
        by_kind[next((item.risk for item in of(group) if item.risk), "")].append(group)
    # One count for all kinds, so that a kind of one question is held out for every second of them.
    for number, group in enumerate(group for kind in sorted(by_kind) for group in by_kind[kind]):
        side[group] = "red_team/held_out" if number % 2 == 0 else "red_team/train"
    rest = [group for group in order if group not in side]
    answered = [group for group in rest if all(item.answer for item in of(group))]
    if len(answered) < _LEAST:
        raise BadInput(f"{len(answered)} different questions with a usable answer beside the red team: give at least {_LEAST}")
    for name, among in (("dev", answered), ("test", rest)):
        side |= dict.fromkeys(drawn(among, max(1, round(len(among) * shares[name])), name), name)
    sound = [group for group in answered if all(_keeps_all(item) for item in of(group))]
    side |= dict.fromkeys(drawn(sound, min(_GOLD_MOST, round(len(answered) * shares["gold_set"])), "gold_set"), "gold_set")
    return [side.get(group, "train") for group in groups], groups


def _keeps_all(item: Item) -> bool:
    verdict = medical_rules.score(item.asked, item.answer, medical_book.shipped(), reference=item.answer, risk=item.risk)
    return verdict is not None and not verdict.broken


def work(args: argparse.Namespace) -> int:
    """Read, draw, write; 0 done. Raises BadInput."""
    for share in (args.dev, args.test, args.gold, args.red_share):
        if not 0 < share < 1:
            raise BadInput(f"a share is {share:g}: give one between 0 and 1")
    if args.dev + args.test + args.gold >= 1:
        raise BadInput(f"--dev {args.dev:g}, --test {args.test:g} and --gold {args.gold:g} leave nothing to train on: let them sum to less")
    tables.check_output(args.out_dir / "train.jsonl")
    sources = [medical.read(name) for name in args.inputs]
    sources += [medical.read(name, answers=False) for name in args.questions_only]
    red = [medical.read(name, needed=False) for name in args.red_team]
    items = usable(sources, red)
    marked = {item.med_id for source in red for item in source.items}
    shares = {"dev": args.dev, "test": args.test, "gold_set": args.gold, "red_team": args.red_share}
    sides, groups = draw(items, marked, shares, args.seed)
    keywords = medical.with_keywords(items)
    files = rows_of_files(items, sides, keywords)
    stats = _stats(items, sides, groups, [*sources, *red], files, args.seed)
    contents = {f"{name}.jsonl": rows for name, rows in files.items()}
    data_card = card(items, sides, [*sources, *red], stats)
    cli.write_folder(args.out_dir, {**contents, "prepare_stats.json": stats, "DATA_CARD.md": data_card})
    left_out = sum((source.left_out for source in [*sources, *red]), Counter[str]())
    print(
        f"{sum(source.rows for source in [*sources, *red])} rows in, {len(items)} questions kept, "
        + ", ".join(f"{name} {len(rows)}" for name, rows in files.items())
        + f"; left out: {cli.counted(dict(left_out.most_common())) or 'none'}; {args.out_dir} written"
    )
    return 0


def rows_of_files(items: Sequence[Item], sides: Sequence[str], keywords: Sequence[Sequence[str]]) -> dict[str, list[Row]]:
    """The rows of every file. SFT files hold answers; prompts do not, and stand high-risk first within each of their three parts."""
    files: dict[str, list[Row]] = {name: [] for name in SIDES}
    prompts: list[tuple[int, bool, Row]] = []
    parts = {"red_team/train": 0, "gold_set": 1, "train": 2}
    for item, side, points in zip(items, sides, keywords, strict=True):
        name = side.partition("/")[0]
        row = medical.sample(item, points, answered=name != "red_team")
        if name == "red_team":
            row |= {"split": side.partition("/")[2], OWED: item.owed}
        if name != "train" or item.answer:
            files[name].append(row)
        if side in parts:
            prompts.append((parts[side], not item.risk, medical.sample(item, points, answered=False)))
    return files | {"training_prompts": [row for *_, row in sorted(prompts, key=lambda prompt: prompt[:2])]}


def _stats(
    items: Sequence[Item], sides: Sequence[str], groups: Sequence[int], sources: Sequence[Source], files: dict[str, list[Row]], seed: int
) -> dict[str, object]:
    return {
        "seed": seed,
        "files": {name: len(rows) for name, rows in files.items()},
        "sides": dict(Counter(sides)),
        "risks": {
            side: dict(Counter(item.risk for item, on in zip(items, sides, strict=True) if on == side)) for side in sorted(set(sides))
        },
        "groups_of_near_duplicates": sum(count > 1 for count in Counter(groups).values()),
        "sources": [{"name": source.name, "rows": source.rows, "left_out": dict(source.left_out.most_common())} for source in sources],
    }


def card(items: Sequence[Item], sides: Sequence[str], sources: Sequence[Source], stats: dict[str, object]) -> str:
    """The data card, all of it counted from the data."""
    book = medical_book.shipped()
    kinds = [kind.id for kind in book.risks.kinds]
    answered = [item for item in items if item.answer]
    used = [(item, side) for item, side in zip(items, sides, strict=True)]
    lines = [
        "# Medical data",
        "",
        "Written by tools/prepare_medical.py from the data; do not edit. Not checked by a doctor, and no advice.",
        "",
    ]
    lines += ["## Files", "", "| file | rows |", "|---|---|"]
    lines += [f"| {name}.jsonl | {count} |" for name, count in dict(stats["files"]).items()]  # type: ignore[call-overload]
    lines += ["", f"Seed {stats['seed']}. {stats['groups_of_near_duplicates']} groups of questions that are nearly the same"]
    lines += [f"(similarity of at least {near_duplicates.ALIKE:g} of 100), each on one side. Columns: `messages` and `med_*`.", ""]
    lines += ["## Sources", "", "| source | licence | rows | used | left out |", "|---|---|---|---|---|"]
    for source in sources:
        gone = cli.counted(dict(source.left_out.most_common())) or "none"
        lines.append(f"| {source.name} | {source.licence} | {source.rows} | {source.rows - source.left_out.total()} | {gone} |")
    lines += ["", "## Lengths (characters)", "", "| of | rows | 5 % | median | 95 % | longest |", "|---|---|---|---|---|---|"]
    for name, texts in {
        "question": [item.asked for item in items],
        "answer": [item.answer for item in answered],
        "reasoning": [item.reasoning for item in items if item.reasoning],
    }.items():
        lines.append(_lengths(name, [len(text) for text in texts]))
    lines += ["", "## Risks", "", "Told by the row, else by the lexicon (medical_risks.yaml).", ""]
    shown = ("train", "dev", "test", "gold_set", "red_team/train", "red_team/held_out")
    lines += ["| risk | " + " | ".join(shown) + " |", "|---|" + "---|" * len(shown)]
    for kind in [*kinds, ""]:
        counts = [sum(item.risk == kind for item, on in used if on == side) for side in shown]
        totals = [max(1, sum(on == side for _, on in used)) for side in shown]
        cells = (f"{count} ({count / total:.0%})" for count, total in zip(counts, totals, strict=True))
        lines.append(f"| {kind or 'none'} | " + " | ".join(cells) + " |")
    lines += ["", "## Known faults", "", *_faults(items, answered, sources, book)]
    return "\n".join(lines) + "\n"


def _lengths(name: str, counts: Sequence[int]) -> str:
    if len(counts) < 2:
        return f"| {name} | {len(counts)} | – | – | – | – |"
    cuts = quantiles(counts, n=20)
    return f"| {name} | {len(counts)} | {cuts[0]:.0f} | {cuts[9]:.0f} | {cuts[18]:.0f} | {max(counts)} |"


def _faults(items: Sequence[Item], answered: Sequence[Item], sources: Sequence[Source], book: medical_book.Book) -> list[str]:
    """What is known to be wrong or untested, each with its number."""
    dropped = sum((source.left_out for source in sources), Counter[str]())
    unsafe = sum(count for reason, count in dropped.items() if reason.startswith("answer_breaks_"))
    verdicts = [medical_rules.score(item.asked, item.answer, book, risk=item.risk) for item in answered]
    broken = Counter(rule for verdict in verdicts for rule in (verdict.broken if verdict else [medical_rules.TIMED_OUT]))
    labelled = [item for item in items if item.told and item.owed != medical.PLAIN]
    agreeing = sum(item.told in book.risks.of(item.asked) for item in labelled)
    lines = [
        f"- No answer was checked by a doctor. {unsafe} were left out for breaking a safety rule; rules see wording, not truth.",
        f"- {len(items) - len(answered)} questions have no answer: in RL and in evaluation they have no reference.",
        f"- {sum(not item.reasoning for item in answered)} of {len(answered)} answers come without reasoning.",
        f"- {sum(not item.keywords for item in answered)} answers had no keywords: the rarer words of the answer stand in.",
        f"- {sum(bool(item.criteria) for item in items)} of {len(items)} questions have rubrics; the others go by one checklist.",
    ]
    if broken:
        lines.append("- Answers kept that break a rule of the book: " + cli.counted(dict(broken.most_common())) + ".")
    if labelled:
        lines.append(
            f"- The lexicon finds the kind of risk that a row names in {agreeing} of {len(labelled)} ({agreeing / len(labelled):.0%})."
        )
    missing = [kind.id for kind in book.risks.kinds if not any(item.risk == kind.id for item in items)]
    return lines + ([f"- No question of the kinds {', '.join(missing)}."] if missing else [])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command line takes."""
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="data set on a hub, file or folder, of questions with answers")
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="folder to write")
    parser.add_argument(
        "--questions-only", action="append", default=[], metavar="FILE", help="only the questions of FILE are used, as prompts"
    )
    parser.add_argument("--red-team", action="append", default=[], metavar="FILE", help="high-risk questions, with or without answers")
    parser.add_argument(
        "--red-share", type=float, default=0.2, help="share of the INPUTs' high-risk questions for the red team (default 0.2)"
    )
    parser.add_argument("--dev", type=float, default=0.1, help="share of dev (default 0.1)")
    parser.add_argument("--test", type=float, default=0.1, help="share of test (default 0.1)")
    parser.add_argument("--gold", type=float, default=0.1, help=f"share of the gold set (default 0.1, at most {_GOLD_MOST} rows)")
    parser.add_argument("--seed", type=int, default=20, help="default %(default)s")
