"""What a task is to the mechanisms: one object of plain data, whose functions are imported when they are first called.

Doctor, watch, plots, report, gate, evaluate, ask, export and deploy read a `Task` and name none. This module imports nothing of ours, so
that a task can be declared before anything heavy is loaded.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from typing import Any, Literal, get_args

Row = dict[str, str]
"""Cells of a table, by column."""
Messages = list[dict[str, str]]
Better = Literal["up", "down", "neutral"]
MEANS = "mean [95 % interval]"
"""Head of a task's first table."""


def load(target: str) -> Any:
    """Return what "package.module:Name" names, or the module where there is no colon.

    >>> load("math:floor")(1.5)
    1
    """
    module, _, name = target.partition(":")
    loaded = import_module(module)
    return getattr(loaded, name) if name else loaded


def lazy(target: str) -> Callable[..., Any]:
    """The function that "package.module:name" names, imported when it is first called.

    >>> lazy("math:floor")(1.5)
    1
    """
    loaded = cache(lambda: load(target))

    def call(*args: Any, **kwargs: Any) -> Any:
        return loaded()(*args, **kwargs)

    call.__name__ = call.__qualname__ = target.partition(":")[2]
    return call


@dataclass(frozen=True)
class Metric:
    """Measure of an answer: its name in summary.json, in English and Chinese, and whether more of it is better.

    A name with `*` stands for all metrics that match it; they are shown under their own names.

    >>> right = Metric("accuracy", "accuracy", "准确率", percent=True)
    >>> right.english, right.written(0.5), Metric("x_*", better="down").shown("x_talk").english
    ('accuracy, %', '50.0', 'x_talk')
    """

    name: str
    en: str = ""
    zh: str = ""
    better: Better = "up"
    percent: bool = False
    digits: int | None = None
    """Behind the point; of percent 1 by default, else 3."""
    factor: float = 1.0
    """Of the number that is shown, by the one that is measured."""

    def __post_init__(self) -> None:
        if self.better not in ("up", "down", "neutral"):
            raise ValueError(f"metric {self.name}: better={self.better!r} is none of up, down, neutral")

    @property
    def english(self) -> str:
        """Head in a table."""
        return self.en + ", %" * self.percent

    @property
    def chinese(self) -> str:
        """Head in a Chinese table."""
        return self.zh + "，%" * self.percent

    def shown(self, name: str) -> "Metric":
        """Return this metric for a name that it matches."""
        return replace(self, name=name, en=self.en or name, zh=self.zh or name)

    def written(self, value: float, sign: str = "") -> str:
        """A value in the metric's own units; `sign` "+" shows one in front of a gain."""
        digits = self.digits if self.digits is not None else 1 if self.percent else 3
        return format(value * self.factor * (100 if self.percent else 1), f"{sign},.{digits}f")


@dataclass(frozen=True)
class Reward:
    """A reward of GRPO and PPO under its name on the command line, and what it needs."""

    name: str
    target: str | type
    """ "module:Class", or the class; its name is the metric's name."""
    columns: tuple[str, ...] = ()
    """The dataset columns that it reads."""
    once: str = ""
    """The column of these that holds a constant of the prompt, measured when the data was made; blank, it is asked live."""
    asks: tuple[Literal["retrieval", "judge"], ...] = ()
    """The services that it asks."""
    judged: str = "judge_share"
    """The setting that holds the share of samples that the judge scores."""
    judged_by: str = ""
    """The column without whose value the judge is not asked about a row; "" where it is asked about any."""
    judge_weight: str = ""
    """A setting that is 0 where the judge's part weighs nothing; "" for none."""
    judged_together: str = ""
    """A setting that is 1 where one call judges the completions of a question, the teacher's answer among them; "" for none."""

    def load(self) -> Any:
        """The class."""
        return load(self.target) if isinstance(self.target, str) else self.target


@dataclass(frozen=True)
class Setting:
    """A setting of the task's own: a number that is read as OVERTAKE_<NAME> or from the YAML file. One within 0 and 1 is a share."""

    name: str
    default: float
    least: float = 0.0
    most: float | None = None
    meaning: str = ""
    """For the table of settings."""


DECLARED: dict[str, Setting] = {}
"""The settings of all known tasks, by name: filled when a task becomes known, read by settings.py, which must not look upward."""


Thinking = Literal["off", "on", "rows"]
THINKING_COLUMN = "chat_template_kwargs"
"""The column of a row that says by {"enable_thinking": true} whether it is thought about; ms-swift reads it in training and rollouts."""
TEACHER_PROMPT_COLUMN = "teacher_prompt"
"""The column of a row with what the student is asked, in place of its last turn, where it is its own teacher; ms-swift's name."""


@dataclass(frozen=True)
class Decoding:
    """Way in which a model of this task answers: as many new tokens as training allowed."""

    limit: int
    temperature: float = 0.0
    """Of a served model; evaluation is greedy."""
    top_p: float | None = None
    thinking: Thinking = "off"
    """Whether the model thinks before it answers, in SFT, RL, sampling, evaluation and use alike.

    off: every prompt closes the think block where the model's template has one, and what is thought all the same is taken off the answer.
    on: every prompt leaves room for a thought, which is part of the answer and of its limit. rows: each row says so by its column
    `chat_template_kwargs`; one that does not is as the template has it.
    """

    def __post_init__(self) -> None:
        if self.thinking not in get_args(Thinking):
            raise ValueError(f"thinking={self.thinking!r} is none of {', '.join(get_args(Thinking))}")

    def thinks(self, row: Mapping[str, Any]) -> bool | None:
        """Say whether a row's prompt leaves room for a thought; None where nobody says.

        >>> rows = Decoding(8, thinking="rows")
        >>> rows.thinks({"chat_template_kwargs": '{"enable_thinking": true}'}), rows.thinks({}), Decoding(8).thinks({})
        (True, None, False)

        Raises ValueError for a column out of form.
        """
        if self.thinking != "rows":
            return self.thinking == "on"
        template = row.get(THINKING_COLUMN) or {}
        try:
            template = json.loads(template) if isinstance(template, str) else template
            thinks = template.get("enable_thinking")
        except (ValueError, AttributeError):
            thinks = template
        if thinks is not None and not isinstance(thinks, bool):
            raise ValueError(f'{THINKING_COLUMN} is {str(template)[:60]!r}: write {{"enable_thinking": true}} or false')
        return thinks

    @property
    def flags(self) -> list[str]:
        """Flags that tell ms-swift so, training, sampling or serving.

        >>> Decoding(8, thinking="on").flags, Decoding(8, thinking="rows").flags
        (['--enable_thinking', 'true'], [])
        """
        return [] if self.thinking == "rows" else ["--enable_thinking", str(self.thinking == "on").lower()]

    @property
    def serving(self) -> list[str]:
        """The flags of `swift deploy` that serve it so.

        >>> " ".join(Decoding(150, 0.7, 0.9).serving)
        '--temperature 0.7 --top_p 0.9 --max_new_tokens 150 --enable_thinking false'
        """
        top_p = [] if self.top_p is None else ["--top_p", f"{self.top_p:g}"]
        return ["--temperature", f"{self.temperature:g}", *top_p, "--max_new_tokens", str(self.limit), *self.flags]


@dataclass(frozen=True)
class Cheat:
    """A share in logging.jsonl whose rise says that the reward is cheated, in English and Chinese."""

    name: str
    en: str
    zh: str


@dataclass(frozen=True)
class Opinion:
    """Two curves of logging.jsonl: a judge that can be persuaded, and what is counted. One rising while the other falls is cheating."""

    judge: str
    counted: str
    judge_en: str
    counted_en: str
    judge_zh: str
    counted_zh: str


@dataclass(frozen=True)
class Panel:
    """A plot: what it shows, in English and Chinese, and the names it has in logging.jsonl, by trainer and mode."""

    title: str
    chinese: str
    names: tuple[str, ...]
    says: str = ""
    says_chinese: str = ""


@dataclass(frozen=True)
class Evaluation:
    """Comparison of answers on held-out rows."""

    id: str
    """The column that names a row."""
    answer: str
    """Under which name an answer is kept."""
    texts: tuple[str, ...]
    """The columns that an answer depends on."""
    shown: Mapping[str, str]
    """Columns of the details: their name there -> the row's column."""
    read: Callable[..., list[Row]]
    """read(args) -> the rows; `args.judge` says whether a judge is asked too. Raises BadInput or SettingsError before anything is spent."""
    messages: Callable[[Row], Messages]
    """The prompt of training. Raises ValueError for a row that has none."""
    measure: Callable[..., dict[str, dict[str, Any]]]
    """measure(candidate, answers, rows, args) -> by row id each metric that could be measured, and words for the details.

    An empty answer scores 0, a missing one is left out.
    """
    columns: Mapping[str, str] = field(default_factory=dict)
    """Candidates whose answers stand in the rows: their name -> the column."""
    base: str = ""
    """The one of these that asks as users do: how many rows every other candidate makes better, leaves and makes worse is counted."""
    ways: tuple[str, ...] = ()
    """Ways of using an answer, beside as it is: the candidate WAY:NAME is measured with the answers of NAME, used so."""


@dataclass(frozen=True)
class Headline:
    """The table that a project is approved by: teacher, SFT and RL, beside what was expected of each, and what was promised."""

    quality: str
    """The metric of quality, 0 to 5."""
    top1: tuple[str, ...]
    """Metrics of the first document, of which the first that was measured is shown."""
    wins: str
    """The metric by which a row is won or lost against the teacher."""
    expected: Mapping[str, Mapping[str, float]]
    """Of teacher, SFT and RL: quality, top1, latency in seconds, usd_1000."""
    promised: Mapping[str, float]
    """quality as a share of the teacher's, at least; cost and latency as a change from the teacher's, at most."""


@dataclass(frozen=True)
class Attacks:
    """Rows with an honest answer, and the answers that would win by something else than being right."""

    id: str
    """The column of the reward's rows that names a row."""
    question: str
    """The column that holds what was asked."""
    rows: Callable[..., list[Row]]
    """rows(path) -> rows with the columns that the rewards read. Raises BadInput."""
    honest: Callable[[Row], str]
    tricks: Callable[[Row, Row], dict[str, str]]
    """By name, for a row and another row of the same data."""
    least: float = 0.0
    """What an honest answer must earn on average, as a share of the weights; 0 where it is measured against itself."""
    sample: str = ""
    """Rows that ship with the project, under datasets/; "" for none."""
    beside: tuple[str, ...] = ()
    """Rewards that are shown beside, with weight 0."""
    golds: Callable[..., list[Any]] | None = None
    """golds(path) -> findings on the rows' own answers and verdicts."""
    judge: Callable[..., Any] | None = None
    """judge(endpoint) -> a call to the judge as the rewards make it, tried before a run."""
    worth: Callable[..., list[Any]] | None = None
    """worth(rows) -> findings on whether the judge tells good answers from bad ones, by real calls on some of a run's rows."""
    services: Callable[..., list[Any]] | None = None
    """services(rows) -> findings of a real call to what else the rewards ask."""
    look_up: Callable[[Sequence[Row]], list[Row]] | None = None
    """look_up(rows) -> the rows with what a trick needs to know of them and the services tell."""
    paid: Mapping[str, str] = field(default_factory=dict)
    """Tricks that the rewards cannot tell from an honest answer -> why not, and what to do about it."""


@dataclass(frozen=True)
class Line:
    """A line that people read: words, and a note in English and Chinese."""

    text: str
    en: str = ""
    zh: str = ""
    good: bool | None = None
    """Whether it speaks for the answer or against it; None for neither."""
    text_zh: str = ""
    """The words in Chinese, where they are ours; "" for words that are shown as they are."""


@dataclass(frozen=True)
class Part:
    """A part of what there is to see of an answer: a heading in English and Chinese, a text, lines."""

    en: str
    zh: str
    text: str = ""
    marks: tuple[tuple[int, int], ...] = ()
    """Places of the text that are marked: from, to; in order, none within another."""
    lines: tuple[Line, ...] = ()
    folded: bool = False
    """Shown on demand."""


@dataclass(frozen=True)
class Input:
    """A field that a person fills in for a task: the column it goes into, and what it is called in English and Chinese."""

    column: str
    en: str
    zh: str
    lines: int = 1
    choices: Callable[[], Sequence[str]] | None = None
    """The values there are, the first by default; None for free text."""


@dataclass(frozen=True)
class Tab:
    """A task on the page, one tab, and what tools/ask.py prints below an answer."""

    en: str
    zh: str
    inputs: tuple[Input, ...]
    """The first is the question."""
    parts: Callable[[Row, str], list[Part]]
    """parts(row, answer) -> what there is to see of it. Raises Abort, BadInput or SettingsError where a service is away."""
    note: tuple[str, str] = ("", "")
    """A remark above the tab, in English and Chinese."""
    judge: Callable[[Row, str], list[Part]] | None = None
    """judge(row, answer) -> the judge's verdict, which costs a call. Raises as `parts` does."""
    of_teacher: Callable[[str], str] | None = None
    """What of a teacher's text is the answer. Raises ValueError where nothing is."""


@dataclass(frozen=True)
class Task:
    """An application that a student is trained for: all that the mechanisms need to know of it."""

    name: str
    """As its folder is called."""
    rewards: tuple[Reward, ...]
    metrics: tuple[Metric, ...]
    """All that is measured, as far as it has a name of its own or is not simply better when there is more of it."""
    decoding: Decoding
    evaluation: Evaluation
    attacks: Attacks
    called: str = ""
    """What users type; "" for the name itself."""
    row: str | type = ""
    """The class of a row."""
    main: str = ""
    """The metric that the task is about, by which examples are ranked; "" for the first."""
    tables: Mapping[str, tuple[str, ...]] | Callable[[], Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    """Head of each table of an evaluation -> its metrics, in order; empty for one table of all metrics."""
    datasets: Mapping[str, str | Callable[[], Any]] = field(default_factory=dict)
    """Name for --dataset -> what makes its DatasetMeta."""
    cheats: tuple[Cheat, ...] = ()
    opinions: tuple[Opinion, ...] = ()
    panels: tuple[Panel, ...] = ()
    settings: tuple[Setting, ...] = ()
    headline: Headline | None = None
    expected: Mapping[str, str] = field(default_factory=dict)
    """What the project expects of data, sft, grpo, ppo (or rl for both) and all: time, memory, money; beside what the doctor counts."""
    tab: Tab | None = None
    """Without one a page shows the texts that the prompt needs, and the answer."""
    stages: Mapping[str, Any] = field(default_factory=dict)
    """Tool -> what does its work: a module (by its name) with `add_arguments(parser)` and `work(args)`, or a class that is made with
    the task and has both. Its docstring is what --help says of the task."""
    also: Mapping[str, str] = field(default_factory=dict)
    """Tool -> another name that it takes for the task."""
    recipe: str = ""
    """The recipe whose rewards the doctor examines."""
    port: int = 8000
    """On which its student is served."""
    file: str = ""
    """The file that a task of a user's own was read from."""

    def __post_init__(self) -> None:
        if not self.called:
            object.__setattr__(self, "called", self.name)

    def measured(self) -> Mapping[str, tuple[str, ...]]:
        """The tables of an evaluation: head -> names of metrics, in order."""
        tables = self.tables() if callable(self.tables) else self.tables
        return tables or {MEANS: tuple(metric.name for metric in self.metrics if "*" not in metric.name)}

    def measures(self) -> tuple[str, ...]:
        """The names of all tables' metrics."""
        return tuple(name for names in self.measured().values() for name in names)

    def metric(self, name: str) -> Metric:
        """Metric of that name; one that is not declared is shown as it is, and more of it is better."""
        declared = next((metric for metric in self.metrics if fnmatchcase(name, metric.name)), Metric(name))
        return declared.shown(name)

    def knows(self, name: str) -> bool:
        """Say whether a measure is declared."""
        return any(fnmatchcase(name, known_metric.name) for known_metric in self.metrics)

    def stage(self, tool: str) -> Any:
        """Find what does a tool's work: `add_arguments(parser)`, `work(args)`, a docstring. Raises KeyError where the task has none."""
        builder = self.stages[tool]
        builder = load(builder) if isinstance(builder, str) else builder
        return builder(self) if isinstance(builder, type) else builder

    @property
    def served(self) -> str:
        """The name under which its student is served."""
        return self.called.replace("_", "-")


def rewards(tasks: Sequence[Task]) -> dict[str, Reward]:
    """The rewards of tasks, by name."""
    return {reward.name: reward for task in tasks for reward in task.rewards}
