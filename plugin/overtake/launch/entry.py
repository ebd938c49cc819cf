"""The entry of recipes/lib.sh: KIND [NAME COUNT WORD...]...; a NAME is followed by so many words, so none needs an escape."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from overtake.launch import chain, checkpoints, machine, recipes
from overtake.launch.command import Refused, one_line
from overtake.launch.run import ROOT, Run, note


def choose_profile(run: Run) -> None:
    """Print the profile that the cards call for; on stderr what they are."""
    present = machine.cards(run.settings)
    profile = machine.choose_profile(present, sorted(path.stem for path in (ROOT / "recipes/profiles").glob("*.sh")), run.dry)
    note(f"profile {profile} ({present})")
    print(profile)


def print_last(run: Run) -> None:
    """Print the checkpoint of a run with the highest step; nothing where there is none."""
    if checkpoint := checkpoints.last(Path(run.given["words"][0])):
        print(checkpoint)


KINDS: dict[str, Callable[[Run], None]] = {
    **{kind: partial(recipes.train, kind=kind) for kind in ("sft", "grpo", "ppo")},
    **{"sample": recipes.sample, "rollout": recipes.rollout, "deploy": recipes.deploy, "export": recipes.export, "serve": recipes.serve},
    "page": recipes.page,
    **{"profile": choose_profile, "last": print_last, "options": chain.print_options, "port": chain.print_port},
    **{"quiet": chain.quiet, "resist": chain.resist},
}


def unpack(argv: Sequence[str]) -> dict[str, list[str]]:
    """The arrays that a shell handed over: a name, how many words, the words.

    >>> unpack(["flags", "2", "--a", "x y", "profile", "1", "cpu", "none", "0"])
    {'flags': ['--a', 'x y'], 'profile': ['cpu'], 'none': []}
    """
    lists: dict[str, list[str]] = {}
    rest = list(argv)
    while rest:
        name, count, *rest = rest
        lists[name], rest = rest[: int(count)], rest[int(count) :]
    return lists


def main(argv: Sequence[str], settings: Mapping[str, str]) -> int:
    """Run a recipe; the exit status: 2 with one `error:` line for what cannot be run, else the launcher's."""
    try:
        KINDS[argv[0]](Run(unpack(argv[1:]), dict(settings)))
    except Refused as error:
        note(f"error: {one_line(str(error))}")
        return 2
    except OSError as error:
        note("error: " + one_line(str(error.strerror or error) + (f": {error.filename}" if error.filename else "")))
        return 2
    except SystemExit as ended:
        return int(ended.code or 0)
    except KeyboardInterrupt:
        return 130
    return 0
