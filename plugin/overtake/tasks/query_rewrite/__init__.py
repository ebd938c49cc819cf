"""Query rewriting for RAG: rewrites that find more than the teacher's."""

from overtake.task import MEANS, Attacks, Cheat, Decoding, Evaluation, Headline, Input, Metric, Opinion, Panel, Reward, Tab, Task, lazy
from overtake.tasks.query_rewrite.columns import (
    GOLD,
    HISTORY,
    KB,
    MEASURED_BY,
    PROFILE,
    QUERY,
    QUERY_ID,
    TEACHER_JUDGE,
    TEACHER_RECALL,
    TEACHER_REWRITE,
    TENANT,
)

_HERE = "overtake.tasks.query_rewrite"

TASK = Task(
    name="query_rewrite",
    row=f"{_HERE}.rows:RewriteRow",
    recipe="grpo_rag",
    rewards=(
        Reward(
            "rag_competition",
            f"{_HERE}.rewards.rag_competition:RagCompetition",
            MEASURED_BY,
            once=TEACHER_RECALL,
            asks=("retrieval", "judge"),
            judged_by=TEACHER_JUDGE,
            judge_weight="weight_judge",
            judged_together="judge_group",
        ),
        Reward("rag_retrieval", f"{_HERE}.rewards.rag_retrieval:RagRetrieval", MEASURED_BY, TEACHER_RECALL, ("retrieval",)),
        Reward("rag_win", f"{_HERE}.rewards.rag_win:RagWin", MEASURED_BY, TEACHER_RECALL, ("retrieval",)),
        Reward(
            "teacher_judge",
            f"{_HERE}.rewards.teacher_judge:TeacherJudge",
            MEASURED_BY,
            asks=("judge",),
            judged_by=TEACHER_JUDGE,
            judged_together="judge_group",
        ),
        Reward("rewrite_rules", f"{_HERE}.rewards.rewrite_rules:RewriteRules", (QUERY,)),
    ),
    datasets={"overtake/query_rewrite": f"{_HERE}.dataset:query_rewrite", "overtake/sample": f"{_HERE}.sample_dataset:sample"},
    main="quality",
    metrics=(
        Metric("quality", "retrieval quality", "检索质量"),
        Metric("top1", "top-1 reranker score", "首条重排分数"),
        Metric("hit@1", "top-1 accuracy", "首条命中率", percent=True),
        Metric("good@1", "top-1 score of 0.6 or more", "首条重排分数不低于 0.6", percent=True),
        Metric("recall@5", "recall@5", "前五召回率", percent=True),
        Metric("mrr@10", "MRR@10", "MRR@10"),
        Metric("ndcg@10", "nDCG@10", "nDCG@10"),
        Metric("judge", "rewrite quality, judged (0-5)", "改写质量（评审，0-5）", digits=2),
        # A question that is good as it is may be copied; too much of it is told by the watch.
        Metric("copy", "copies of the question", "照抄问题", "neutral", percent=True),
        Metric("unreadable", "unreadable", "无法读取", "down", percent=True),
    ),
    # Without gold labels quality and top1 are of reranker scores; with them of gold relevance, and top1 and good@1 are hit@1, so not shown.
    tables={MEANS: ("quality", "top1", "hit@1", "good@1", "recall@5", "mrr@10", "ndcg@10", "judge", "copy", "unreadable")},
    # A rewrite needs no thought, and its 150 tokens have no room for one.
    decoding=Decoding(limit=150, temperature=0.7, top_p=0.9),
    evaluation=Evaluation(
        id=QUERY_ID,
        answer="rewrite",
        texts=(QUERY, TENANT, PROFILE, HISTORY),
        shown={QUERY_ID: QUERY_ID, "query": QUERY, "profile": PROFILE, "history": HISTORY, "gold": GOLD},
        columns={"copy": QUERY, "teacher": TEACHER_REWRITE},
        base="copy",
        ways=("fused", "fallback"),
        read=lazy(f"{_HERE}.evaluate:read"),
        messages=lazy(f"{_HERE}.evaluate:messages"),
        measure=lazy(f"{_HERE}.evaluate:measure"),
    ),
    attacks=Attacks(
        id=QUERY_ID,
        question=QUERY,
        rows=lazy(f"{_HERE}.attacks:rows"),
        honest=lambda row: row[TEACHER_REWRITE],
        tricks=lazy(f"{_HERE}.attacks:tricks"),
        golds=lazy(f"{_HERE}.attacks:judged"),
        judge=lazy(f"{_HERE}.attacks:judge"),
        services=lazy(f"{_HERE}.attacks:services"),
        look_up=lazy(f"{_HERE}.attacks:look_up"),
        paid={
            "gold document's title": "labels pay it by what they are: a policy that has memorised which document belongs to a training "
            "question earns without having learnt to rewrite. Keep documents apart with their questions (tools/hold_out.py --documents), "
            "and believe held-out rows alone"
        },
    ),
    cheats=(
        Cheat("rewrite/copy", "copies of the question", "照抄问题"),
        Cheat("rewrite/stuffing", "keyword stuffing", "堆砌关键词"),
        Cheat("rewrite/talk", "talk instead of a rewrite", "不改写而闲谈"),
    ),
    opinions=(Opinion("rag/judge", "rag/retrieval", "the judge's part", "retrieval", "评审部分", "检索部分"),),
    panels=(
        Panel("Win rate against the teacher", "对教师的胜率", ("rag/win_rate",), "share that retrieve better", "检索更好的改写所占比例"),
        Panel("Held-out win rate", "留出集胜率", ("eval_rag/win_rate",), "the same, on held-out questions", "同上，在留出问题上"),
        Panel("Retrieval quality", "检索质量", ("rag/student_quality",), "student's recall lists", "学生的召回列表"),
        Panel("Judge's part", "评审部分", ("rag/judge",), "against what is counted: do both like it?", "与可计量部分对照：二者是否一致"),
        Panel("Retrieval's part", "检索部分", ("rag/retrieval",), "of the reward, against the teacher", "奖励的一部分，与教师相比"),
        Panel("Winning's part", "胜负部分", ("rag/win",), "of the reward", "奖励的一部分"),
        Panel("Copies of the question", "照抄问题", ("rewrite/copy",), "share", "比例"),
    ),
    headline=Headline(
        quality="judge",
        top1=("hit@1", "good@1"),
        wins="quality",
        expected={
            "teacher": {"quality": 4.8, "top1": 0.85, "latency": 2.0, "usd_1000": 25.0},
            "SFT": {"quality": 4.3, "top1": 0.78, "latency": 0.85, "usd_1000": 2.5},
            "RL": {"quality": 4.6, "top1": 0.88, "latency": 0.9, "usd_1000": 2.8},
        },
        promised={"quality": 4.6 / 4.8, "cost": -0.9, "latency": -0.55},
    ),
    expected={
        "data": "1 day; for 500 rows some 30 minutes and 5 USD of the teacher, some 20 minutes of the RAG service",
        "sft": "2 to 4 days; LoRA on 4 x 80 GB, 50 to 60 each; all weights on 8 x 80 GB, some 70 each",
        "rl": "3 to 5 days; 30 USD for 1,000 rows x 10 epochs",
        "all": "7 to 10 days, 1 of them for evaluation and deployment",
    },
    tab=Tab(
        "Query rewriting",
        "查询改写",
        (
            Input(QUERY, "Question", "问题", lines=2),
            Input(TENANT, "Tenant", "租户", choices=lazy(f"{_HERE}.prompts:tenants")),
            Input(KB, "Knowledge base", "知识库", choices=lambda: ("default",)),
            Input(PROFILE, "User profile", "用户画像"),
            Input(HISTORY, "History summary", "历史摘要"),
        ),
        parts=lazy(f"{_HERE}.tab:parts"),
        judge=lazy(f"{_HERE}.tab:judge"),
        of_teacher=lazy(f"{_HERE}.unwrapping:clean"),
    ),
    stages={name: f"{_HERE}.{name}" for name in ("generate", "validate", "convert", "evaluate", "ask")},
)
