"""One small knowledge base: four documents, a lexicon of two phrases, labelled questions."""

import pytest
from overtake.retrieval.corpus import Document
from overtake.retrieval.service import KnowledgeBase

DOCUMENTS = [
    Document("sleep", "褪黑素", "褪黑素改善睡眠障碍，缩短入睡时间"),
    Document("skin", "胶原蛋白肽", "胶原蛋白肽改善皮肤松弛与真皮弹性"),
    Document("eye", "叶黄素", "叶黄素保护视网膜黄斑，减轻蓝光损伤"),
    Document("bone", "氨基葡萄糖", "氨基葡萄糖滋养关节软骨，减轻关节疼痛"),
]
LEXICON = {"脸垮": "皮肤松弛 真皮弹性", "脸": "胶原蛋白肽"}
LABELS = {"屏幕看久难受": {"eye"}, "屏幕看久模糊": {"eye"}, "跑步蹲下难受": {"bone"}, "数羊到天亮": {"sleep"}}
LABELS |= {f"跑步第{number}圈": {"bone"} for number in range(10)}


@pytest.fixture(scope="session")
def labels():
    return LABELS


@pytest.fixture(scope="session")
def kb():
    return KnowledgeBase.build(DOCUMENTS, LEXICON)
