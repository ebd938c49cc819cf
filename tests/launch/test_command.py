"""Commands as lists of words: whatever a word holds, it is one word in the list and one word to the shell that reads what is printed."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from overtake.launch import command
from overtake.launch.command import Refused

NASTY = [
    "",
    " ",
    "a  b",
    "quote\" and '",
    "$(x)",
    "`x`",
    "x; y",
    "胶原 蛋白",
    "back\\slash",
    "line\nbreak",
    "tab\t",
    "#4",
    "a#4",
    "~",
    "a=~/b",
]
NASTY += ["*", "?", "[a]", "{a,b}", "!", "^", "\x7f", "\x1b[31m", "é\n'", "-", "&|<>", '{"a": 0.9, "b": [1]}', "\u2028"]


def as_bash_reads(words: list[str]) -> list[str]:
    script = f"printf '%s\\0' {' '.join(map(command.quote, words))}"
    return subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout.decode().split("\0")[:-1]


def test_a_quoted_word_is_the_same_word_to_bash() -> None:
    assert as_bash_reads(NASTY) == NASTY


@settings(max_examples=25)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=20, max_size=40))
def test_any_quoted_words_are_the_same_words_to_bash(words: list[str]) -> None:
    assert as_bash_reads(words) == words


def test_what_is_plain_stays_as_it_is() -> None:
    plain = ["--a", "overtake/finance:/x/rl.jsonl#4", "1e-5", "a.b,c", "A=1", "50%", "+1", "a@b"]
    assert [*map(command.quote, plain)] == plain


@pytest.mark.parametrize("word", ["--a[$(x)]", "--a;x", "--a b", "--a`x`=1", "--=1", "---", "--ä"])
def test_a_flag_has_a_flags_name(word: str) -> None:
    with pytest.raises(Refused, match=r"is no flag: write --name value"):
        command.put({}, word, "1")


@pytest.mark.parametrize("word", ["--", "-a", "a", ""])
def test_a_value_needs_a_flag_before_it(word: str) -> None:
    with pytest.raises(Refused, match="expected a --flag, got: "):
        command.put({"--a": ["1"]}, word)


def test_a_later_flag_wins_in_the_place_of_the_first() -> None:
    flags: command.Flags = {}
    command.put(flags, "--a", "1", "2", "--b", "3")
    command.put(flags, "--a=x=y")
    assert list(flags.items()) == [("--a", ["x=y"]), ("--b", ["3"])]
    assert (command.value(flags, "--a"), command.value(flags, "--c"), command.value(flags, "--c", "d")) == ("x=y", "", "d")


def test_a_flag_that_was_dropped_may_be_set_again() -> None:
    flags = {"--a": ["1"], "--b": ["2"]}
    command.drop(flags, "--a", "--none")
    assert flags == {"--b": ["2"]}
    command.put(flags, "--a", "3")
    assert list(flags) == ["--b", "--a"]


def test_values_that_begin_with_one_dash_are_values() -> None:
    flags: command.Flags = {}
    command.put(flags, "--lr", "-1e-5", "-x")
    assert flags == {"--lr": ["-1e-5", "-x"]}


def test_the_printed_command_is_the_words_that_run() -> None:
    flags: command.Flags = {"--stop_words": NASTY, "--empty": []}
    text = command.text(["A=1 2", "B="], ["swift"], "deploy", flags)
    script = 'swift() { printf \'%s\\0\' "$A" "$B" "$@"; }\n' + text
    said = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout.decode().split("\0")[:-1]
    assert said == ["1 2", "", *command.words([], "deploy", flags)]
