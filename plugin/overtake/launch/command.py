"""A command of ms-swift as lists of words: flags in order, a later one replacing an earlier; no shell reads a value a second time."""

import re
from collections.abc import Iterable, Mapping, Sequence

Flags = dict[str, list[str]]
"""Values by name, dashes included, in the order in which they are printed."""
_NAME = re.compile(r"--[A-Za-z0-9][A-Za-z0-9_.-]*")
_PLAIN = re.compile(r"[A-Za-z0-9_./:=,@%+-][A-Za-z0-9_./:=,@%+#-]*")
_TO_ESCAPE = re.compile(r"[\s'\"\\|&;()<>!{}*\[?\]^$`,~#]")


class Refused(Exception):
    """Refusal of what cannot be run; the message names the thing, the value and the remedy, in one line."""


def put(flags: Flags, *argv: str) -> None:
    """Set flags from words: --name value..., or --name=value. One that is set already keeps its place. Raises Refused for anything else.

    >>> flags = {"--a": ["1"]}
    >>> put(flags, "--b", "x", "y z", "--a=2", "--c")
    >>> flags
    {'--a': ['2'], '--b': ['x', 'y z'], '--c': []}
    """
    values: list[str] | None = None
    for word in argv:
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word.partition("=")
            if not _NAME.fullmatch(name):
                raise Refused(f"{quote(name)} is no flag: write --name value")
            values = flags[name] = [value] if equals else []
        elif values is None:
            raise Refused(f"expected a --flag, got: {word}")
        else:
            values.append(word)


def drop(flags: Flags, *names: str) -> None:
    """Take flags out; those that are not set are no matter."""
    for name in names:
        flags.pop(name, None)


def value(flags: Mapping[str, Sequence[str]], name: str, default: str = "") -> str:
    """The first value of a flag; `default` where it has none."""
    return next(iter(flags.get(name, ())), default)


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return (a recipe's flags, the caller's): what stands before and behind the first --.

    >>> split(["--a", "1", "--", "--b", "--", "x"])
    (['--a', '1'], ['--b', '--', 'x'])
    """
    at = argv.index("--") if "--" in argv else len(argv)
    return list(argv[:at]), list(argv[at + 1 :])


def quote(word: str) -> str:
    r"""A word for a shell to read; as it is when nothing in it needs quoting, else as bash's printf %q writes it.

    >>> print(quote("rl.jsonl#4"), quote("a b"), quote(""), quote("胶原 $(x)"), quote("a\nb"), quote("#4"))
    rl.jsonl#4 a\ b '' 胶原\ \$\(x\) $'a\nb' \#4
    """
    if not word:
        return "''"
    if _PLAIN.fullmatch(word):
        return word
    if word.isprintable():
        return _TO_ESCAPE.sub(r"\\\g<0>", word)
    shown = (letter if letter.isprintable() and letter not in "'\\" else _escaped(letter) for letter in word)
    return f"$'{''.join(shown)}'"


def one_line(remark: str) -> str:
    r"""A remark to be shown, whatever path or setting stands in it: what would break its line or steer a terminal, as its escape.

    >>> print(one_line("TUNER=a\nb\x1b[2J: lora or full"))
    TUNER=a\nb\033[2J: lora or full
    """
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in remark)


def _escaped(letter: str) -> str:
    escapes = {"\n": r"\n", "\t": r"\t", "\r": r"\r", "'": r"\'", "\\": r"\\"}
    return escapes.get(letter) or "".join(f"\\{byte:03o}" for byte in letter.encode("utf-8", "surrogateescape"))


def words(launcher: Sequence[str], subcommand: str, flags: Mapping[str, Sequence[str]]) -> list[str]:
    """The argument list that is run.

    >>> words(["swift"], "sft", {"--a": ["1"], "--b": []})
    ['swift', 'sft', '--a', '1', '--b']
    """
    return [*launcher, subcommand, *(word for name, values in flags.items() for word in (name, *values))]


def text(environment: Iterable[str], launcher: Sequence[str], subcommand: str, flags: Mapping[str, Sequence[str]]) -> str:
    r"""The same command for the eye and for a shell: NAME=value in front, a flag a line.

    >>> print(text(["A=1 2"], ["swift"], "sft", {"--a": ["x"], "--b": []}))
    A=1\ 2 swift sft \
        --a x \
        --b
    """
    assigned = [f"{name}={quote(value)}" for name, _, value in (variable.partition("=") for variable in environment)]
    first = " ".join([*assigned, *map(quote, launcher), quote(subcommand)])
    return " \\\n    ".join([first, *(" ".join([name, *map(quote, values)]) for name, values in flags.items())])
