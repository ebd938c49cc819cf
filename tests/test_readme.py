"""The documents hold to the code: commands parse, links lead somewhere, generated pages are fresh, nothing is missing."""

import argparse
import ast
import importlib.util
import re
import subprocess
import textwrap
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from overtake import settings, tasks

ROOT = Path(__file__).resolve().parents[1]
README, CHINESE = ROOT / "README.md", ROOT / "README_CN.md"
SWIFT = {
    "sft": "SftArguments",
    "rlhf": "RLHFArguments",
    "sample": "SamplingArguments",
    "export": "ExportArguments",
    "deploy": "DeployArguments",
}
"""ms-swift's commands with the class that holds their flags."""
LAUNCHED = {"sft": "sft", "grpo": "rlhf", "ppo": "rlhf", "sample": "sample", "export": "export", "deploy": "deploy"}
"""What a recipe launches, by the first word of its name: flags behind it are that command's. A chain reads its own."""


def module_of(path: Path) -> ModuleType:
    """A program of the project, imported from its file."""
    spec = importlib.util.spec_from_file_location(f"documented_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_docs = module_of(ROOT / "docs/make_docs.py")
TRACKED: list[Path] = make_docs.tracked()
PAGES = [ROOT / path for path in TRACKED if path.suffix == ".md"]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path, languages: str = r"\w*") -> list[str]:
    """The code blocks of a page in one of these languages."""
    return re.findall(rf"^```(?:{languages})\n(.*?)^```", text_of(path), re.DOTALL | re.MULTILINE)


def without_comments(block: str) -> str:
    return "\n".join(re.sub(r"(^|\s+)#\s.*", "", line) for line in block.splitlines())


def commands(path: Path) -> list[str]:
    """The commands of code blocks and inline code, each on one line, without comments."""
    texts = [without_comments(block.replace("\\\n", " ")) for block in blocks(path)]
    texts += re.findall(r"`([^`\n]+)`", text_of(path))
    return [line for text in texts for line in text.splitlines()]


@cache
def flags_of_tool(name: str, task: str) -> frozenset[str]:
    """The flags that a tool's parser takes, with `--task TASK` where there is one: read from the parser that it builds, nothing runs."""
    flags: set[str] = set()

    def parse(parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        flags.update(flag for action in parser._actions for flag in action.option_strings)
        raise SystemExit(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse)
        with pytest.raises(SystemExit):
            module_of(ROOT / "tools" / f"{name}.py").main(["--task", task] if task else [])
    return frozenset(flags)


@cache
def argument_classes() -> dict[str, tuple[list[str], set[str]]]:
    """Bases and fields of the classes that hold ms-swift's flags, read from its source: importing it takes a quarter of a minute."""

    def folder(package: str) -> Path:
        spec = importlib.util.find_spec(package)
        assert spec and spec.submodule_search_locations
        return Path(spec.submodule_search_locations[0])

    swift, transformers = folder("swift"), folder("transformers")
    files = {path: "" for path in [*(swift / "arguments").rglob("*.py"), *swift.glob("*/arg*.py")]}
    files |= {path: "Hf" for path in transformers.glob("training_args*.py")}
    classes = {}
    for path, prefix in files.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                fields = {item.target.id for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)}
                bases = [prefix + base.id for base in node.bases if isinstance(base, ast.Name)]
                classes[prefix + node.name] = (bases, fields)
    return classes


@cache
def flags_of_swift(command: str) -> frozenset[str]:
    def fields(name: str) -> set[str]:
        bases, own = argument_classes().get(name, ([], set()))
        return own.union(*map(fields, bases))

    return frozenset(f"--{field}" for field in fields(SWIFT[command]))


def known_flags(kind: str, name: str, words: str) -> frozenset[str] | None:
    """The flags that a command takes; None where the file that it names is not there."""
    if kind == "swift ":
        return flags_of_swift(name)
    if kind == "python tools/":
        return flags_of_tool(name, "".join(re.findall(r"--task (\w+)(?!\S)", words))) if (ROOT / f"tools/{name}.py").is_file() else None
    if kind == "bash recipes/" and (ROOT / f"recipes/{name}.sh").is_file() and name.partition("_")[0] in LAUNCHED:
        return flags_of_swift(LAUNCHED[name.partition("_")[0]])
    folders = {"bash recipes/": "recipes", "python benchmarks/": "benchmarks", "python docs/": "docs", "python -m demo.": "demo"}
    path = ROOT / folders[kind] / f"{name.replace('.', '/')}{'.sh' if kind.startswith('bash') else '.py'}"
    return frozenset(re.findall(r"(?<![\w-])--[a-z][\w-]*", text_of(path))) if path.is_file() else None


CALL = re.compile(
    r"(?P<kind>python tools/|bash recipes/|python benchmarks/|python docs/|python -m demo\.|swift (?=sft|rlhf|sample|export|deploy))"
    r"(?P<name>[a-z_0-9.]+?)(?:\.py|\.sh|(?=\s|$))(?P<words>[^&|;]*)"
)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_flags_exist(page: Path) -> None:
    for command in commands(page):
        for call in CALL.finditer(command):
            used = set(re.findall(r"(?<!\S)--[a-z][\w-]*", call["words"].partition(" -- ")[0]))
            known = known_flags(*call.groups())
            assert known is not None, f"{command}: there is no {call['kind']}{call['name']}"
            assert not used or used <= known | {"--help"}, f"{command}: {used - known}"


def test_shell_blocks_parse() -> None:
    for page in PAGES:
        script = "\n".join(blocks(page, "bash|sh"))
        if script:
            done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{name_of(page)}: {done.stderr}"


def test_python_blocks_parse() -> None:
    for page in PAGES:
        for block in blocks(page, "python"):
            ast.parse(textwrap.dedent(block), filename=name_of(page))


def test_tests_that_a_page_names_are_there() -> None:
    for page in PAGES:
        for path in re.findall(r"pytest [^`\n]*?(tests/[\w/.]+)", text_of(page)):
            assert (ROOT / path).exists(), f"{name_of(page)}: {path}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def links(page: Path) -> list[tuple[Path, str]]:
    """The page's links to files of the project, each with its anchor."""
    found = [link.partition("#") for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)) if not re.match(r"https?://", link)]
    return [((page.parent / place).resolve() if place else page, anchor) for place, _, anchor in found]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in links(page):
        assert target.exists(), target
        assert not anchor or anchor in anchors(target), f"{target}#{anchor}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, ahead = set(), [README]
    while ahead:
        page = ahead.pop()
        if page not in reached:
            reached.add(page)
            ahead += [target for target, _ in links(page) if target.suffix == ".md"]
    assert {name_of(page) for page in PAGES} - {name_of(page) for page in reached} == set()


@pytest.mark.parametrize("name", make_docs.PAGES)
def test_generated_pages_are_fresh(name: str) -> None:
    assert text_of(ROOT / name) == make_docs.PAGES[name](), "run: python docs/make_docs.py"


def test_every_file_of_the_layout_says_what_it_is_for() -> None:
    silent = [line for line in make_docs.layout_page().splitlines() if re.fullmatch(r" *- (\*\*\S+/\*\*|`\S+`)", line)]
    assert silent == []


def test_every_setting_says_what_it_means() -> None:
    assert [name for name, field in settings.model().model_fields.items() if not field.description] == []


def test_both_readmes_have_the_same_code_and_headings_and_are_short() -> None:
    english, chinese = ([without_comments(block) for block in blocks(path, "bash")] for path in (README, CHINESE))
    assert english == chinese
    levels = [re.findall(r"^#+(?= )", text_of(path), re.MULTILINE) for path in (README, CHINESE)]
    assert len(levels[0]) == len(levels[1])
    for path, most in ((README, 150), (CHINESE, 150), (ROOT / "CONTRIBUTING.md", 60)):
        assert len(text_of(path).splitlines()) <= most, path.name
    assert sum(len(text_of(ROOT / "recipes" / name).splitlines()) for name in ("lib.sh", "chain.sh")) <= 200


def test_every_tool_recipe_reward_and_task_is_in_the_documents() -> None:
    documents = "\n".join(text_of(page) for page in PAGES if page.parent == ROOT / "docs" and page.name != "layout.md") + text_of(README)
    tools = [f"tools/{path.name}" for path in (ROOT / "tools").glob("*.py")]
    recipes = [f"`{path.name}`" for path in (ROOT / "recipes").glob("*.sh") if path.stem not in ("lib", "chain")]
    rewards = [f"`{name}`" for name in tasks.rewards()]
    pages = ["docs/query_rewrite.md", "docs/finance.md", "docs/medical.md", "docs/judge.md"]
    assert [name for name in [*tools, *recipes, *rewards] if name not in documents] == []
    assert [page for page in pages if not (ROOT / page).is_file()] == []


def test_every_profile_is_in_the_table_of_profiles() -> None:
    table = set(re.findall(r"^\| `?([\w-]+)`?(?:, `[\w-]+`)* \|", text_of(ROOT / "docs/profiles.md"), re.MULTILINE))
    table |= set(re.findall(r"`([\w-]+)`", "\n".join(re.findall(r"^\| (`[^|]+)\|", text_of(ROOT / "docs/profiles.md"), re.MULTILINE))))
    assert {path.stem for path in (ROOT / "recipes/profiles").glob("*.sh")} <= table


def test_no_page_names_a_variable_that_does_not_exist() -> None:
    known = {f"OVERTAKE_{name.upper()}" for name in settings.model().model_fields} | set(settings.READ_ELSEWHERE)
    code = [path for path in TRACKED if path.suffix in (".py", ".sh") and path.parts[0] in ("recipes", "tools", "tests", "demo", "plugin")]
    for path in [*code, Path(".ci/run"), Path("install.sh")]:
        known |= set(re.findall(r"OVERTAKE_[A-Z_]*[A-Z]\b", text_of(ROOT / path)))
    known.add("OVERTAKE_TRIAGE_SHARE")  # the setting of the worked example in new_task.md
    for page in PAGES:
        assert set(re.findall(r"OVERTAKE_[A-Z_]*[A-Z]\b", text_of(page))) <= known, page


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_table_of_files_names_each_once(page: Path) -> None:
    names = {path.name for path in TRACKED}
    for table in re.findall(r"(?:^\|.*\n)+", text_of(page), re.MULTILINE):
        cells = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
        files = [name for cell in cells for name in re.findall(r"[\w/]+\.(?:py|sh|yaml|html)", cell) if Path(name).name in names]
        assert len(files) == len(set(files)), table


OTHERS = {"DATA_CARD.md", "wandb_integration.md"}
"""Made by a tool; a file of the user's, to whom the guide says what stands in its place."""
CITED = re.compile(
    r"\bspec(?:ification)?(?: trap| section)? \d|ms-swift-\d\.\d: \d|(?<![\x22/])\bissue #?\d|/work/|\bfield-20\d\d", re.IGNORECASE
)
"""Citations of what no reader has: numbered sections of a specification, numbers of issues, folders of a machine."""


def test_nothing_cites_a_document_that_no_reader_has() -> None:
    names = {path.name for path in TRACKED} | OTHERS
    citing = {}
    for path in TRACKED:
        if path.suffix in (".py", ".sh", ".md", ".yaml", ".toml", ".txt") and path != Path("tests/test_readme.py"):
            text = text_of(ROOT / path)
            absent = [name for name in re.findall(r"\b([a-zA-Z][\w.-]*\.md)\b", text) if name not in names] if ".md" in text else []
            if cited := absent + CITED.findall(text):
                citing[path.as_posix()] = cited
    assert citing == {}
