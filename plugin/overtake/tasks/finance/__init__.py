"""Financial reasoning: answers that are right, with their reasoning."""

from overtake.task import MEANS, Attacks, Cheat, Decoding, Evaluation, Input, Metric, Opinion, Panel, Reward, Setting, Tab, Task, lazy
from overtake.tasks.finance.columns import GRADED, ID, QUESTION, READ

_HERE = "overtake.tasks.finance"

TASK = Task(
    name="finance",
    row=f"{_HERE}.rows:FinanceRow",
    recipe="grpo_finance",
    rewards=(
        Reward("answer_format", f"{_HERE}.rewards.answer_format:AnswerFormat"),
        Reward(
            "finance_accuracy",
            f"{_HERE}.rewards.finance_accuracy:FinanceAccuracy",
            READ,
            asks=("judge",),
            judged="finance_judge_share",
        ),
        Reward("keyword_answer", f"{_HERE}.rewards.keyword_answer:KeywordAnswer", GRADED),
        Reward("numeric_answer", f"{_HERE}.rewards.numeric_answer:NumericAnswer", GRADED),
    ),
    settings=(
        Setting(
            "finance_judge_share",
            1.0,
            most=1.0,
            meaning="Share of the finance questions answered in words that the judge scores in training; 0: by rules only.",
        ),
    ),
    datasets={"overtake/finance": f"{_HERE}.dataset:finance"},
    main="accuracy",
    metrics=(
        Metric("format", "format", "格式", percent=True),
        Metric("accuracy", "accuracy", "准确率", percent=True),
        Metric("judge", "judge (0-1)", "评审（0-1）"),
        Metric("unreadable", "unreadable", "无法读取", "down", percent=True),
        Metric("length", "length, characters", "长度（字符）", "neutral", digits=0),
        *(Metric(name) for name in ("calculation", "concept", "analysis", "reasoning")),
    ),
    tables={
        MEANS: ("format", "accuracy", "judge", "unreadable", "length"),
        "accuracy by type": ("calculation", "concept", "analysis", "reasoning"),
    },
    # As many as RL gives thought and answer. It thinks: the form <think>…</think><answer>…</answer> is what is learnt.
    decoding=Decoding(limit=1024, thinking="on"),
    evaluation=Evaluation(
        id="id",
        answer="output",
        texts=("question",),
        shown={"id": "id", "type": "type", "question": "question", "gold_answer": "gold_answer"},
        read=lazy(f"{_HERE}.evaluate:read"),
        messages=lazy(f"{_HERE}.evaluate:messages"),
        measure=lazy(f"{_HERE}.evaluate:measure"),
    ),
    attacks=Attacks(
        id=ID,
        question=QUESTION,
        rows=lazy(f"{_HERE}.attacks:rows"),
        honest=lazy(f"{_HERE}.attacks:honest"),
        tricks=lazy(f"{_HERE}.attacks:tricks"),
        least=1.0,
        sample="finance/train.jsonl",
        beside=("numeric_answer", "keyword_answer"),
        golds=lazy(f"{_HERE}.attacks:golds"),
        judge=lazy(f"{_HERE}.attacks:judge"),
    ),
    cheats=(Cheat("finance/unanswered", "solutions without an answer", "没有答案的解答"),),
    opinions=(Opinion("rewards/AnswerFormat/mean", "rewards/FinanceAccuracy/mean", "the format", "accuracy", "格式得分", "准确率"),),
    panels=(Panel("Unanswered", "没有答案的解答", ("finance/unanswered",), "share: should fall", "比例：应下降"),),
    expected={"data": "8 GB for a role of a 7B, in 4 bits where memory is short", "sft": "16 to 24 GB", "rl": "16 to 24 GB"},
    tab=Tab(
        "Finance",
        "金融推理",
        (
            Input("question", "Question", "问题", lines=4),
            Input("gold_answer", "Right answer, if you know it", "标准答案（可空）"),
        ),
        parts=lazy(f"{_HERE}.tab:parts"),
        judge=lazy(f"{_HERE}.tab:judge"),
    ),
    stages={"ask": "overtake.evaluation.asking:Asking", **{name: f"{_HERE}.{name}" for name in ("generate", "evaluate")}},
)
