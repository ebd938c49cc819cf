"""The READMEs say what is there: commands and flags, paths, settings; and both languages say the same."""

import dataclasses
import fnmatch
import importlib.util
import re
import subprocess
from functools import lru_cache
from pathlib import Path

import pytest
from overtake import settings
from pydantic import SecretStr

ROOT = Path(__file__).resolve().parents[1]
ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README_CN.md"
IGNORED = [".git", *(line.strip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines() if line)]
# Flags of these go to ms-swift; quickstart.sh reads its own.
SWIFT = {
    "sft": "SftArguments",
    "rlhf": "RLHFArguments",
    "sample": "SamplingArguments",
    "export": "ExportArguments",
    "deploy": "DeployArguments",
}
# The launcher of each recipe, by its own name.
_KINDS = {"sft": "sft", "grpo": "rlhf", "ppo": "rlhf", "sample": "sample", "export": "export", "deploy": "deploy"}
RECIPES = {
    path.stem: _KINDS[path.stem.partition("_")[0]] for path in (ROOT / "recipes").glob("*.sh") if path.stem.partition("_")[0] in _KINDS
}


def ours(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not any(fnmatch.fnmatch(path.name, name) for name in IGNORED))


def tracked() -> list[Path]:
    """The project's files; a user's own sheets may lie beside them. Without git, what .gitignore does not name."""
    if (ROOT / ".git").exists():
        said = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        return [Path(name) for name in said.split("\0") if name]
    return [path.relative_to(ROOT) for folder in (ROOT, *filter(Path.is_dir, ours(ROOT))) for path in ours(folder)]


def readmes(folder: Path = ROOT) -> list[Path]:
    found = [path for path in ours(folder) if path.is_file() and path.name.startswith("README") and path.suffix == ".md"]
    return found + [one for path in ours(folder) if path.is_dir() for one in readmes(path)]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```", text_of(path), re.DOTALL | re.MULTILINE)


def without_comments(block: str) -> str:
    return "\n".join(re.sub(r"(^|\s+)#\s.*", "", line) for line in block.splitlines())


def tree(path: Path) -> list[str]:
    """Every path that the tree names, relative to the project."""
    block = re.search(r"<!-- tree -->\s+```text\n(.*?)```", text_of(path), re.DOTALL)
    assert block
    parents: dict[int, str] = {}
    found = []
    for line in without_comments(block[1]).splitlines():
        depth = len(line) - len(line.lstrip())
        names = [parents.get(depth - 2, "") + name for name in line.split()]
        found += names
        parents[depth] = names[0]
    return found


def commands(path: Path) -> list[str]:
    """Commands of code blocks and inline code, each on one line, without comments."""
    said = [without_comments(block.replace("\\\n", " ")) for block in blocks(path)]
    said += re.findall(r"`([^`\n]+)`", text_of(path))
    return [line for text in said for line in text.splitlines()]


@lru_cache
def flags_of_tool(name: str, task: str) -> set[str]:
    """The flags that the tool's help names, with `--task TASK` where there is one."""
    spec = importlib.util.spec_from_file_location(f"readme_{name}", ROOT / "tools" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout.write", said.append)
        with pytest.raises(SystemExit):
            module.main([*(["--task", task] if task else []), "--help"])
    return set(re.findall(r"(?<!\w)--[a-z][\w-]*", "".join(said)))


@lru_cache
def flags_of_swift(command: str) -> set[str]:
    import swift.arguments

    return {f"--{field.name}" for field in dataclasses.fields(getattr(swift.arguments, SWIFT[command]))}


def test_both_languages_have_the_same_code_and_as_many_headings() -> None:
    english, chinese = ([without_comments(block) for block in blocks(path)] for path in (ENGLISH, CHINESE))
    assert english == chinese
    levels = [
        re.findall(r"^#+(?= )", re.sub(r"^```.*?^```", "", text_of(path), flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
        for path in (ENGLISH, CHINESE)
    ]
    assert levels[0] == levels[1]


@pytest.mark.parametrize("readme", [ENGLISH, CHINESE], ids=lambda path: path.name)
def test_the_tree_is_what_is_there(readme: Path) -> None:
    named = tree(readme)
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert [name for name in named if (ROOT / name).is_dir() != name.endswith("/")] == []
    assert len(named) == len(set(named))
    whole = {(name.rstrip("/")) for name in named}
    shown = (".", "plugin", "plugin/overtake", "recipes", "tools", "datasets")
    wanted = {path.parts[: len(Path(folder).parts) + 1] for folder in shown for path in tracked() if path.is_relative_to(folder)}
    missing = {"/".join(parts) for parts in wanted} - whole
    assert missing <= {".ci"}  # named by its only file


@pytest.mark.parametrize("readme", readmes(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(readme: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(readme)):
        if re.match(r"https?://", link):
            continue
        place, _, anchor = link.partition("#")
        target = readme.parent / place if place else readme
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", text_of(target), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings], link


@pytest.mark.parametrize("readme", readmes(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_and_flags_exist(readme: Path) -> None:
    for command in commands(readme):
        for kind, name, rest in re.findall(r"(python tools/|bash recipes/|swift )([a-z_0-9]+)(?:\.py|\.sh|(?= ))([^&|;]*)", command):
            used = set(re.findall(r"(?<!\S)--[a-z][\w-]*", rest))
            if kind == "python tools/":
                assert (ROOT / "tools" / f"{name}.py").is_file(), command
                known = flags_of_tool(name, "".join(re.findall(r"--task (\w+)", rest)))
            elif kind == "swift ":
                known = flags_of_swift(name) if used else set()
            else:
                assert (ROOT / "recipes" / f"{name}.sh").is_file(), command
                if not used:
                    continue
                script = text_of(ROOT / "recipes" / f"{name}.sh")
                known = flags_of_swift(RECIPES[name]) if name in RECIPES else set(re.findall(r"--[a-z][\w-]*", script))
            assert used <= known, f"{command}: {used - known}"


@pytest.mark.parametrize("readme", [ENGLISH, CHINESE], ids=lambda path: path.name)
def test_the_settings_table_is_what_is_in_force(readme: Path) -> None:
    def shown(default: object) -> str:
        value = default.get_secret_value() if isinstance(default, SecretStr) else default
        return f"{value:g}" if isinstance(value, int | float) else str(value) or "–"

    table = dict(re.findall(r"^\| `(OVERTAKE_\w+)` \| (\S+) \|", text_of(readme), re.MULTILINE))
    expected = {f"OVERTAKE_{name.upper()}": shown(field.default) for name, field in settings.model().model_fields.items()}
    assert {name: table.get(name) for name in expected} == expected


def test_no_readme_names_a_variable_that_does_not_exist() -> None:
    folders = [ROOT / "recipes", ROOT / "tools", ROOT / ".ci", ROOT / "plugin/overtake"]
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".sh") or path.name == "run"]
    known = {f"OVERTAKE_{name.upper()}" for name in settings.model().model_fields}
    for path in [*files, ROOT / "install.sh", ROOT / "tests/conftest.py"]:
        known |= set(re.findall(r"OVERTAKE_[A-Z_]*[A-Z]\b", text_of(path)))
    for readme in readmes():
        named = set(re.findall(r"OVERTAKE_[A-Z_]*[A-Z]\b", text_of(readme)))
        assert named <= known, readme


@pytest.mark.parametrize("readme", readmes(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_table_of_files_names_each_once(readme: Path) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", text_of(readme), re.MULTILINE):
        first = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
        files = [name for cell in first for name in re.findall(r"[\w/]+\.(?:py|sh|yaml|html)|(?<=\[)[\w/]+(?=\]\()", cell)]
        assert len(files) == len(set(files)), table


def test_nothing_cites_a_document_that_no_reader_has() -> None:
    cited = re.compile(r"\bspec(?: trap)? \d|ms-swift-\d\.\d: \d|\b(?:design|lessons|house|mission-\w+|real-models)\.md\b", re.IGNORECASE)
    kinds = (".py", ".sh", ".md", ".yaml", ".toml", ".txt")
    texts = {
        path: text_of(ROOT / path)
        for path in tracked()
        if path.suffix in kinds and path.name != "test_readme.py" and (ROOT / path).is_file()
    }
    assert {str(path): line for path, text in texts.items() for line in text.splitlines() if cited.search(line)} == {}
