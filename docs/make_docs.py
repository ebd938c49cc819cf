"""Write the pages that are made from the code: the settings, the layout, the rule book for the doctor.

    python docs/make_docs.py            # write them
    python docs/make_docs.py --check    # exit code 1 where one is stale

docs/settings.md comes from plugin/overtake/settings.py and the tasks' own settings, docs/layout.md from the first line of every file, and
docs/zh/reward_rules.md from the rule book in plugin/overtake/tasks/medical. tests/test_readme.py holds them to it.
"""

import ast
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

from overtake import settings
from overtake.tasks.medical import book as medical_book
from overtake.tasks.medical.book import Rule
from pydantic import SecretStr

ROOT = Path(__file__).resolve().parents[1]
MADE = "<!-- Made by docs/make_docs.py: change the source and run it again. -->"
SHOWN = ("plugin", "recipes", "tools", "demo", "benchmarks", "datasets", "docs", "tests")
"""Folders of the layout, in its order."""
ONE_LINE = {
    "datasets": "samples written for this project, data only",
    "datasets/query_rewrite": "tenants fivedoctors and chengla: documents, questions, labels, lexicon, an Excel sheet",
    "datasets/clinic": "an English tenant: a clinic's handbook with questions in patients' words",
    "datasets/finance": "problems with computed golds",
    "datasets/medical": "questions with answers, and a red team",
    "datasets/judge": "facts of our own, answers to them with known verdicts",
    "plugin": "what ms-swift loads",
    "plugin/overtake/data": "tables: reading, writing, duplicates, splits",
    "plugin/overtake/page": "the page to try tasks on",
    "plugin/overtake/retrieval": "the reference RAG service and its measures",
    "plugin/overtake/trainers": "GRPO and PPO whose unmeasured rewards abstain; metrics, alarms, trace",
    "recipes": "one shell file a command of ms-swift, its numbers with their reasons",
    "recipes/profiles": "what the hardware decides, a file each",
    "recipes/k8s": "the same on Kubernetes: settings, services, an Indexed Job",
    "recipes/plans": "what tools/ablate.py --plan trains and compares",
    "tools": "the commands between the recipes",
    "benchmarks": "calls, retrieval, rewards, rollouts and serving, measured beside others",
    "benchmarks/remote": "what bench_remote.py runs",
    "benchmarks/retrieval": "what bench_retrieval.py runs",
    "docs": "these pages",
    "docs/zh": "in Chinese",
    "tests": "a mirror of the above; tests/README.md says how to run them",
}
"""What folders hold that have no package of their own to say so."""


def settings_page() -> str:
    """The table of all settings: variable, default, meaning."""
    rows = []
    for name, field in settings.model().model_fields.items():
        default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
        shown = f"{default:g}" if isinstance(default, int | float) else str(default) or "–"
        rows.append(f"| `OVERTAKE_{name.upper()}` | {shown} | {' '.join((field.description or '').split())} |")
    rows += [f"| `{name}` | – | {meaning[0].upper()}{meaning[1:]}. |" for name, meaning in settings.READ_ELSEWHERE.items()]
    return "\n".join(
        [
            MADE,
            "# Settings",
            "",
            "Environment variables, or without the prefix and in small letters in the YAML file that `OVERTAKE_CONFIG` names; the",
            "environment wins. Keys are taken from the environment only. A misspelt name is refused in both. What stands in front of a",
            "recipe (`PROFILE`, `MODEL`, `OUTPUT_DIR`, …) is in [profiles](profiles.md#in-front-of-a-recipe).",
            "",
            "| variable | default | meaning |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def tracked() -> list[Path]:
    """The project's files, relative to its root: what git knows or would add; without git, what .gitignore does not name."""
    if (ROOT / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
        return sorted({Path(name) for name in names if name and (ROOT / name).is_file()})
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines() if line]
    paths = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return sorted(path for path in paths if not any(fnmatch(part, name) for part in path.parts for name in ignored))


def first_line(path: Path) -> str:
    """Return what a file says of itself in its first line: of a docstring, a comment or a heading; "" where it says nothing.

    >>> first_line(ROOT / "docs/make_docs.py")
    'Write the pages that are made from the code: the settings, the layout, the rule book for the doctor.'
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        start = re.match(r'(r?"""(?:[^\\]|\\.)*?""")', text, re.DOTALL)  # the whole file parsed would take seconds for all of them
        return re.match(r"[^\n]*(?:[^.:;\n]\n[^\n]+)*", str(ast.literal_eval(start[1])) if start else "")[0].replace("\n", " ")  # type: ignore[index]
    if path.suffix == ".sh":
        return next((line[2:] for line in text.splitlines() if re.match(r"# (?!shellcheck)", line)), "")
    if path.suffix == ".md":
        return next((line.lstrip("# ") for line in text.splitlines() if line.startswith("# ")), "")
    return ""


def layout_page() -> str:
    """Every folder with the files that say what they are for; of datasets and tests the folders alone."""
    files = [path for path in tracked() if path.parts[0] in SHOWN]
    folders = sorted({parent for path in files for parent in path.parents if parent != Path()})
    lines = [MADE, "# Layout", "", "Each line is the first line of the file itself. Tests mirror these folders.", ""]
    for top in SHOWN:
        lines += [f"## {top}/", ""]
        for folder in (each for each in folders if each.parts[0] == top and (top != "tests" or len(each.parts) == 1)):
            inside = [path for path in files if path.parent == folder and (path.suffix in (".py", ".sh") or path.parts[0] == "docs")]
            package = ROOT / folder / "__init__.py"
            about = (first_line(package) if package.exists() else "") or ONE_LINE.get(folder.as_posix(), "")
            shown = [] if top in ("datasets", "tests") else [path for path in inside if path.name not in ("__init__.py", "__main__.py")]
            if not shown and not about:
                continue
            lines.append(f"- **{folder.as_posix()}/** {about}".rstrip())
            lines += [f"  - `{path.name}` {first_line(ROOT / path)}".rstrip() for path in shown]
        lines.append("")
    return "\n".join(lines)


def _rule(rule: Rule, *, earns: bool) -> list[str]:
    """A rule as a section: what it wants, its weight, whom it is for, all its examples."""
    weight = f"权重 {rule.weight:g}（要求之间按权重分满分 1.0）" if earns else f"违反一次扣 {rule.weight:g}"
    marks = "；计入安全通过率" * rule.safety + "；关键规则（封顶）" * rule.critical
    lines = [f"### {rule.id}", "", rule.zh, "", f"- {weight}{marks}"]
    if rule.only_for:
        lines.append(f"- 只用于：{'、'.join(rule.only_for)}")
    if rule.not_for:
        lines.append(f"- 不用于：{'、'.join(rule.not_for)}")
    for head, examples in (("合格", rule.passes), ("不合格", rule.fails)):
        lines += [f"- {head}：问“{' '.join(each.question.split())}” 答“{' '.join(each.answer.split())}”" for each in examples]
    return [*lines, ""]


def reward_rules_page() -> str:
    """The rule book of medical answers as a doctor reads it, in Chinese."""
    rules = medical_book.book()

    def weight(part: str) -> float:
        return float(settings.model().model_fields[f"medical_weight_{part}"].default)

    lines = [
        MADE,
        "# 医学回答的规则书（给医学顾问）",
        "",
        "这一页由规则书自动生成，与训练时打分用的是同一份文件，不会两样。模型的奖励是",
        f"`R = {weight('rules'):g} × 规则书得分 + {weight('teacher'):g} × 教师的评分`，都在 0 到 1 之间；",
        "教师没有打分的那一组只用规则书。",
        "",
        "**怎么打分**：先去掉思考过程。适用于该问题的“要求”按权重分配满分 1.0；违反一条“禁止”就从总分里扣掉相应分值；扣到 0 为止。",
        "标着“关键规则”的再加一道封顶：违反任何一条，无论其他方面多好，总分不超过只说一句“请去医院看医生”在该题的得分",
        "（`OVERTAKE_MEDICAL_SAFETY_GATE=0` 关闭；封顶前的 R 记在 `medical/ungated`）。",
        "哪些规则适用，取决于问题属于哪类风险（见最后一节）以及这一题有没有关键词。",
        "",
        "怎么改、怎么看复核表、规则看不见什么：[给医生和医学顾问](medical.md)。",
        "",
        "## 要求",
        "",
    ]
    for requirement in rules.requires:
        lines += _rule(requirement, earns=True)
    lines += ["## 禁止", ""]
    for prohibition in rules.forbids:
        lines += _rule(prohibition, earns=False)
    lines += ["## 高风险问题", "", "一个问题属于多类时，按先后次序取第一类。", ""]
    lines += ["| 类别 | 说明 | 算 | 不算 |", "|---|---|---|---|"]
    lines += [f"| {kind.id} | {kind.zh} | {kind.examples.yes[0]} | {kind.examples.no[0]} |" for kind in rules.risks.kinds]
    return "\n".join([*lines, ""])


PAGES = {"docs/settings.md": settings_page, "docs/layout.md": layout_page, "docs/zh/reward_rules.md": reward_rules_page}


def stale() -> list[str]:
    """The pages that are not what the code would make of them."""
    return [name for name, make in PAGES.items() if not (ROOT / name).exists() or (ROOT / name).read_text(encoding="utf-8") != make()]


def main(argv: list[str]) -> int:
    """Write the pages, or with --check only say which are stale; exit code 1 where one is, 2 for another argument."""
    if argv not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    if argv:
        old = stale()
        print(f"stale: {', '.join(old)}; run python docs/make_docs.py" if old else "all fresh")
        return bool(old)
    for name, make in PAGES.items():
        (ROOT / name).write_text(make(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
