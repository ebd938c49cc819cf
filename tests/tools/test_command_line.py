"""Every tool as a user starts it: its help, one line for an option that it does not have, a name that a script can rely on."""

import ast
import re

import pytest

from ..conftest import ROOT

TOOLS = sorted((ROOT / "tools").glob("*.py"))


@pytest.mark.parametrize("tool", TOOLS, ids=lambda path: path.stem)
def test_help_is_the_tools_own_docstring(run, capsys, tool):
    with pytest.raises(SystemExit) as ended:
        run(tool.stem, "--help")
    first = ast.get_docstring(ast.parse(tool.read_text("utf-8"))).splitlines()[0]
    assert ended.value.code == 0 and first in capsys.readouterr().out


@pytest.mark.parametrize("tool", TOOLS, ids=lambda path: path.stem)
def test_an_option_that_is_none_is_refused_with_2(run, capsys, tool):
    with pytest.raises(SystemExit) as ended:
        run(tool.stem, "--no-such-option")
    assert ended.value.code == 2 and re.search(r"^\S+: error: ", capsys.readouterr().err, re.MULTILINE)


def test_a_tool_hands_its_arguments_to_the_work_and_gives_back_its_exit_code(start, tmp_path):
    (tmp_path / "logging.jsonl").write_text('{"train_runtime": 30.0, "global_step/max_steps": "200/200"}\n')
    good, bad = start("curve", tmp_path, "--steps-to-match", tmp_path), start("curve", tmp_path / "none")
    assert (good.communicate(), good.returncode) == (("200\n", ""), 0)
    out, err = bad.communicate()
    assert (out, bad.returncode) == ("", 2) and err.startswith("error: ") and err.count("\n") == 1
