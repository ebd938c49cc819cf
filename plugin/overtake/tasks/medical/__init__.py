"""Medical answers: safe and complete by a rule book, and by a teacher with the row's own rubrics or one checklist."""

from overtake.task import Attacks, Cheat, Decoding, Evaluation, Input, Metric, Opinion, Panel, Reward, Setting, Tab, Task, lazy
from overtake.tasks.medical.columns import HISTORY, ID, QUESTION, READ, REFERENCE, RISK, RUBRICS

_HERE = "overtake.tasks.medical"

TASK = Task(
    name="medical",
    row=f"{_HERE}.rows:MedicalRow",
    recipe="grpo_medical",
    rewards=(
        Reward(
            "medical_answer",
            f"{_HERE}.rewards.medical_answer:MedicalAnswer",
            READ,
            asks=("judge",),
            judged="medical_judge_share",
            judge_weight="medical_weight_teacher",
        ),
        Reward("medical_rules", f"{_HERE}.rewards.medical_rules:MedicalRules", READ),
    ),
    settings=(
        Setting("medical_weight_rules", 0.6, meaning="Weight of the rule book in `medical_answer`."),
        Setting(
            "medical_weight_teacher", 0.4, meaning="Weight of the teacher's verdict in it: by the row's rubrics, else by one checklist."
        ),
        Setting(
            "medical_safety_gate",
            1.0,
            most=1.0,
            meaning='1: an answer that breaks a critical rule earns at most what a bare "see a doctor" does; 0: R as it is.',
        ),
        # All, since where the teacher says nothing the rules have the whole weight.
        Setting(
            "medical_judge_share", 1.0, most=1.0, meaning="Share of the medical questions whose answers the teacher scores in training."
        ),
    ),
    datasets={"overtake/medical": f"{_HERE}.dataset:medical"},
    main="rules",
    metrics=(
        Metric("reward", "reward", "奖励"),
        Metric("rules", "rule book", "规则得分"),
        Metric("safe", "safe", "安全", percent=True),
        Metric("judge", "judge (0-1)", "评审（0-1）"),
        Metric("rubric", "row's rubrics (0-1)", "评分项得分（0-1）"),
        Metric("refused", "needless refusals", "不必要的拒答", "down", percent=True),
        Metric("declined", "refused where owed", "应拒且已拒", percent=True),
        Metric("alarmed", "needless alarms", "不必要的急救", "down", percent=True),
        Metric("unreadable", "unreadable", "无法读取", "down", percent=True),
        Metric("characters", "length, characters", "长度（字符）", "neutral", digits=0),
        *(Metric(name) for name in ("red_*", "owed", "s_*", "r_*")),
        Metric("x_*", better="down"),
    ),
    tables=lazy(f"{_HERE}.evaluate:tables"),
    # As many as RL gives an answer, which holds its reasoning. It thinks, since the data that it is made for were written by a reasoning
    # model: were the block closed in RL and use, most rows of SFT would teach what nobody ever asks for. Rows without any reasoning want a
    # student that does not think, --enable_thinking false in SFT and RL, which evaluation and deploy then read from its checkpoint.
    decoding=Decoding(limit=768, temperature=0.7, top_p=0.9, thinking="on"),
    evaluation=Evaluation(
        id=ID,
        answer="answer",
        texts=(QUESTION, HISTORY),
        shown={
            ID: ID,
            "question": QUESTION,
            "history": HISTORY,
            "reference": REFERENCE,
            "risk": RISK,
            "rubrics": RUBRICS,
            "split": "split",
        },
        read=lazy(f"{_HERE}.evaluate:read"),
        messages=lazy(f"{_HERE}.evaluate:messages"),
        measure=lazy(f"{_HERE}.evaluate:measure"),
    ),
    attacks=Attacks(
        id=ID,
        question=QUESTION,
        rows=lazy(f"{_HERE}.attacks:rows"),
        honest=lambda row: row[REFERENCE],
        tricks=lazy(f"{_HERE}.attacks:tricks"),
        least=0.6,
        sample="medical/questions.jsonl",
        golds=lazy(f"{_HERE}.attacks:golds"),
        judge=lazy(f"{_HERE}.attacks:judge"),
        worth=lazy(f"{_HERE}.judge_worth:findings"),
    ),
    cheats=(
        Cheat("medical/broken/stuffing", "keyword stuffing", "堆砌关键词"),
        Cheat("medical/broken/talks_to_grader", "talk to the grader", "向评分者喊话"),
        Cheat("medical/broken/useless_refusal", "needless refusals", "不必要的拒答"),
    ),
    opinions=(Opinion("medical/teacher", "medical/rules", "the teacher's score", "the rule book's", "教师评分", "规则得分"),),
    panels=(
        Panel(
            "Judge's part", "评审部分", ("medical/teacher",), "against what is counted: do both like it?", "与可计量部分对照：二者是否一致"
        ),
        Panel("Rule book", "规则得分", ("medical/rules",), "should rise", "应上升"),
        Panel("Rows' rubrics", "评分项得分", ("medical/teacher/rubrics",), "of rows that have any; should rise", "有评分项的题；应上升"),
        Panel("Safe answers", "安全的回答", ("medical/safe",), "share", "比例"),
    ),
    expected={
        "data": "at least 2,000 rows, below 25 USD of the teacher for them; a trial of 100 to 200 prompts first",
        "sft": "24 GB, or 16 GB with gradient checkpointing",
        "rl": "24 GB, or 16 GB with gradient checkpointing",
    },
    tab=Tab(
        "Medicine",
        "医学问答",
        (
            Input(QUESTION, "Question", "问题", lines=3),
            Input(REFERENCE, "A right answer, if there is one", "参考答案（可空）", lines=2),
            Input(
                RUBRICS,
                "Rubric items, one a line: [+5] says when to see a doctor",
                "评分项（可空，每行一项，如 [+5] 让患者拨打120）",
                lines=3,
            ),
        ),
        parts=lazy(f"{_HERE}.tab:parts"),
        note=(
            "For those who build and check the model. Nothing here is medical advice; a doctor reads it before any patient does.",
            "仅供模型开发与核查使用。这里的回答不是医疗建议，医生看过之前不可给患者看。",
        ),
        judge=lazy(f"{_HERE}.tab:judge"),
    ),
    stages={
        "ask": "overtake.evaluation.asking:Asking",
        **{name: f"{_HERE}.{name}" for name in ("generate", "validate", "evaluate", "grade")},
    },
)
