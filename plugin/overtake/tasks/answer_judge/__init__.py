"""A small judge of RAG answers: verdicts on a generated answer against reference answers, with a reason."""

from overtake.task import MEANS, Attacks, Cheat, Decoding, Evaluation, Input, Metric, Opinion, Panel, Reward, Tab, Task, lazy
from overtake.tasks.answer_judge.columns import JUDGE_ID, JUDGE_QUESTION, READ

_HERE = "overtake.tasks.answer_judge"

TASK = Task(
    name="answer_judge",
    called="judge",
    row="overtake.tasks.answer_judge.rows:JudgeRow",
    recipe="grpo_judge",
    rewards=(
        Reward("judge_format", f"{_HERE}.rewards.judge_format:JudgeFormat"),
        Reward("judge_verdict", f"{_HERE}.rewards.judge_verdict:JudgeVerdict", READ),
    ),
    datasets={"overtake/judge": f"{_HERE}.dataset:judge"},
    main="main",
    metrics=(
        Metric("main", "main answer", "主要答案", percent=True),
        Metric("secondary", "secondary answer", "次要答案", percent=True),
        Metric("format", "format", "格式", percent=True),
        Metric("readable", "readable", "可读取", percent=True),
        Metric("passed", "wrong ones passed", "错误被放过", "down", percent=True),
    ),
    tables={MEANS: ("main", "secondary", "format", "readable", "passed")},
    # The reason before the verdict is part of the form, in every row that it learns from.
    decoding=Decoding(limit=1024, thinking="on"),
    evaluation=Evaluation(
        id=JUDGE_ID,
        answer="verdict",
        texts=("question", "answer", "answer_hat"),
        shown={
            "id": JUDGE_ID,
            **{name: name for name in ("question", "answer", "answer_hat")},
            "known_main": "main",
            "known_secondary": "secondary",
        },
        columns={"constant": "constant", "substring": "substring"},
        read=lazy(f"{_HERE}.evaluate:read"),
        messages=lazy(f"{_HERE}.evaluate:messages"),
        measure=lazy(f"{_HERE}.evaluate:measure"),
    ),
    attacks=Attacks(
        id=JUDGE_ID,
        question=JUDGE_QUESTION,
        rows=lazy(f"{_HERE}.attacks:rows"),
        honest=lazy(f"{_HERE}.attacks:honest"),
        tricks=lazy(f"{_HERE}.attacks:tricks"),
        least=0.95,
        sample="judge/train.jsonl",
    ),
    cheats=(Cheat("judge/wrongly_correct", "wrong answers called correct", "把错误答案判为正确"),),
    opinions=(Opinion("rewards/JudgeFormat/mean", "rewards/JudgeVerdict/mean", "the format", "right verdicts", "格式得分", "正确判断"),),
    panels=(Panel("Wrong answers called correct", "错误被判正确", ("judge/wrongly_correct",), "share: should fall", "比例：应下降"),),
    expected={"data": "861 rows, of which 761 train", "sft": "60 steps, loss 2.25 to 0.75", "rl": "3 epochs with 16 or 32 generations"},
    tab=Tab(
        "Judge of answers",
        "答案裁判",
        (
            Input("question", "Question", "问题", lines=2),
            Input("answer", "Reference answer", "参考答案", lines=2),
            Input("answer_hat", "Answer to be judged", "待判答案", lines=3),
        ),
        parts=lazy(f"{_HERE}.tab:parts"),
    ),
    stages={"ask": "overtake.evaluation.asking:Asking", **{name: f"{_HERE}.{name}" for name in ("generate", "evaluate", "grade")}},
    also={"grade": "rag"},
)
