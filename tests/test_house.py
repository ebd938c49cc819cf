"""The house: imports run one way, a task is known by its folder alone, and what is imported first is light."""

import ast
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "plugin/overtake"
TASKS = sorted(path.parent.name for path in PACKAGE.glob("tasks/*/__init__.py"))

LAYERS = (
    # What a task is, the settings, tables as text, keys out of words, boards to watch a run on, a model's names:
    # they import nothing else of ours.
    ("task", "settings", "text_table", "redaction", "boards", "model_family"),
    # Services and their answers, texts and tables; cli.py is the tools' common part over both, prompts.py reads text files, thinking.py
    # writes prompts.
    ("data", "reading", "remote", "retrieval", "cli", "prompts", "thinking"),
    # The mechanisms; generation.py asks teachers, table_task.py makes a task of a table, keyed.py serves a model with a key,
    # hang_up.py ends a generation with its client, gguf_model.py unpacks weights, unanswered.py counts rows that chains go without, page
    # is to try tasks on.
    ("rewards", "evaluation", "doctor", "trainers", "page", "generation", "table_task", "keyed", "hang_up", "gguf_model", "unanswered"),
    ("tasks",),
    # The package itself, which registers all of it with ms-swift, and what the recipes run.
    ("", "launch"),
)
"""From below to above: a module imports those of its own layer and of layers below."""


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def package_of(target: str) -> str:
    """The part of `overtake` that a module's full name lies in, "" for the package itself.

    >>> package_of("overtake.remote.chat"), package_of("overtake")
    ('remote', '')
    """
    return target.partition(".")[2].partition(".")[0]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> frozenset[str]:
    """Full names of what of ours a module imports: anywhere in it, also as the string "overtake.module:Name"."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports hide where they lead"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                here = PACKAGE.parent / whole.replace(".", "/")
                found.add(whole if here.is_dir() or here.with_suffix(".py").is_file() else str(node.module))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"overtake(\.\w+)+(:\w+)?", node.value):
            name = node.value.partition(":")[0]
            here = PACKAGE.parent / name.replace(".", "/")
            if ":" in node.value or here.is_dir() or here.with_suffix(".py").is_file():
                found.add(name)
    return frozenset(name for name in found if name.split(".")[0] in ("overtake", "tools", "demo", "benchmarks", "tests"))


def own(path: Path) -> str:
    """The package that a module lies in."""
    first = path.relative_to(PACKAGE).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def layer(package: str) -> int:
    return next(at for at, names in enumerate(LAYERS) if package in names)


def test_every_package_has_its_layer() -> None:
    assert {own(path) for path in modules()} == {name for names in LAYERS for name in names}


def test_nothing_imports_upward() -> None:
    upward: dict[str, set[str]] = {}
    for path in modules():
        for target in imports(path):
            outside = not target.startswith("overtake")
            if outside or layer(package_of(target)) > layer(own(path)):
                upward.setdefault(path.relative_to(PACKAGE).as_posix(), set()).add(target)
    assert upward == {}


def test_no_packages_import_each_other() -> None:
    arrows = {(own(path), package_of(target)) for path in modules() for target in imports(path)}
    graph: dict[str, set[str]] = {}
    for package, target in arrows:
        if package != target:
            graph.setdefault(package, set()).add(target)
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"these import each other: {' -> '.join(error.args[1])}")


def test_a_task_imports_no_other_task() -> None:
    across: dict[str, set[str]] = {}
    for path in modules():
        parts = path.relative_to(PACKAGE).parts
        if parts[0] == "tasks" and parts[1] in TASKS:
            strange = {one for one in imports(path) if one.split(".")[1:2] == ["tasks"] and one.split(".")[2:3] not in ([parts[1]], [])}
            if strange:
                across[path.relative_to(PACKAGE).as_posix()] = strange
    assert across == {}


def words(path: Path) -> set[str]:
    """All strings and identifiers of a module."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        for _, value in ast.iter_fields(node):
            found |= {one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)}
    return found


def test_no_mechanism_holds_a_tasks_name() -> None:
    name = re.compile("|".join(task.replace("_", "[_-]?") for task in TASKS), re.IGNORECASE)
    naming = {
        path.relative_to(PACKAGE).as_posix(): sorted(word for word in words(path) if name.search(word))
        for path in modules()
        if own(path) != "tasks"
    }
    assert {path: found for path, found in naming.items() if found} == {}


def public(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Functions, classes and methods without an underscore, neither theirs nor their class's."""
    for child in getattr(node, "body", []):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            yield child
            if isinstance(child, ast.ClassDef):
                yield from public(child)


def test_a_public_docstring_begins_with_a_verb_or_a_noun() -> None:
    relative = re.compile(r"(Of|As|What|How|Whether)\b")
    assert [
        f"{path.relative_to(PACKAGE)}: {node.name}"
        for path in modules()
        for node in public(tree(path))
        if relative.match(ast.get_docstring(node) or "")
    ] == []


def test_importing_the_package_loads_no_library() -> None:
    code = "import json, sys; before = {*sys.modules}; import overtake; print(json.dumps(sorted({*sys.modules} - before)))"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(PACKAGE.parent)}, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert loaded - set(sys.stdlib_module_names) == {"overtake"}


def test_no_pattern_of_re_is_possessive_or_atomic() -> None:
    """Python's own matches some of them wrongly before 3.11.5, which is newer than what a stable Linux ships; the regex module does not."""
    texts = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    found = []
    for path, text in texts.items():
        module = ".".join((PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts))
        if re.search(r"\(\?>|[*+?}]\+", text) and "re.compile" in text:
            found += [f"{module}.{name}" for name, value in vars(importlib.import_module(module)).items() if _is_possessive(value)]
    assert found == []


def _is_possessive(value: object) -> bool:
    if not isinstance(value, re.Pattern):
        return False
    parsed: list[object] = [re._parser.parse(value.pattern, value.flags)]  # type: ignore[attr-defined]
    while parsed:
        part = parsed.pop()
        if isinstance(part, re._parser.SubPattern):  # type: ignore[attr-defined]
            parsed += list(part)
        elif isinstance(part, tuple | list):
            parsed += part
        elif str(part) in ("POSSESSIVE_REPEAT", "ATOMIC_GROUP"):
            return True
    return False
