"""make_sample.py on a source of one concept: what is composed, and what is refused with nothing written."""

import copy
import json

import pytest
import yaml
from overtake.data.tables import read_rows
from overtake.retrieval.corpus import read_lexicon, read_qrels, read_queries

pytestmark = pytest.mark.usefixtures("fresh")
SOURCE = {
    "tenant": "shop",
    "concepts": [
        {
            "id": "sleep",
            "name": "褪黑素",
            "terms": ["褪黑素", "入睡困难"],
            "lexicon": ["睡不着"],
            "lay": ["躺下数羊"],
            "heldout": ["整宿睁眼"],
            "docs": {"use": "褪黑素睡前服用", "risk": "褪黑素孕妇禁用"},
        }
    ],
    "aspects": {
        "use": {"title": "用法", "terms": ["用法用量"], "lexicon": ["怎么吃"], "lay": ["啥时候吃"], "heldout": ["咋服"]},
        "risk": {"title": "禁忌", "terms": ["禁忌人群"], "lexicon": ["谁不能吃"], "lay": ["伤不伤身"], "heldout": ["忌讳甚"]},
    },
    "frames": {"train": ["{lay}，{ask}？", "请问{lay}{ask}"], "heldout": ["{lay}，{ask}", "唉{lay}：{ask}"]},
    "profiles": ["三十岁"],
    "histories": ["问过价格"],
}


@pytest.fixture
def make(run, tmp_path):
    def make(change=lambda source: None):
        source = copy.deepcopy(SOURCE)
        change(source)
        (tmp_path / "source.yaml").write_text(yaml.safe_dump(source, allow_unicode=True, sort_keys=False), "utf-8")
        return run("make_sample", tmp_path)

    return make


def written(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != "cache")


def test_questions_are_phrases_in_frames_and_name_their_document(make, tmp_path):
    done = make()
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{tmp_path.name}: 2 documents, 8 training and 4 held-out questions, 3 lexicon entries\n"
    assert written(tmp_path) == ["corpus.jsonl", "lexicon.tsv", "qrels", "queries.jsonl", "questions.xlsx", "source.yaml"]
    corpus = [json.loads(line) for line in (tmp_path / "corpus.jsonl").read_text("utf-8").splitlines()]
    assert corpus[1] == {"_id": "sleep-risk", "title": "褪黑素：禁忌", "text": "褪黑素孕妇禁用"}
    queries = {key: row["text"] for key, row in read_queries(tmp_path).items()}
    train, test = read_qrels(tmp_path, "train"), read_qrels(tmp_path, "test")
    frames = {split: [frame.format for frame in SOURCE["frames"][split]] for split in ("train", "heldout")}
    for key, gold in train.items():
        aspect = SOURCE["aspects"][key.split("-")[1]]
        asks = [*aspect["lexicon"], *aspect["lay"]]
        assert queries[key] in [frame(lay=lay, ask=ask) for frame in frames["train"] for lay in ("睡不着", "躺下数羊") for ask in asks]
        assert gold == {key.rsplit("-", 1)[0]: 1}
    assert {queries[key] for key in test if key.startswith("sleep-use")} == {"整宿睁眼，咋服", "唉整宿睁眼：咋服"}
    assert read_lexicon(tmp_path / "lexicon.tsv") == {"睡不着": "褪黑素 入睡困难", "怎么吃": "用法用量", "谁不能吃": "禁忌人群"}
    assert [row["query_id"] for row in read_rows(tmp_path / "questions.xlsx")] == list(queries)


def test_each_phrase_of_a_concept_is_used_equally_often(make, tmp_path):
    make()
    texts = [row["text"] for key, row in read_queries(tmp_path).items() if "train" in key]
    assert [sum(phrase in text for text in texts) for phrase in ("睡不着", "躺下数羊")] == [4, 4]


# What is wrong with the source, exit code, words of the error.
REFUSED = [
    pytest.param(lambda s: s["aspects"]["use"].update(heldout=["怎么服"]), 1, "leak: 整宿睁眼，怎么服 <- 怎么", id="a word of an ask"),
    pytest.param(lambda s: s["concepts"][0]["lexicon"].append("睁眼"), 1, "<- 睁眼", id="a lexicon that knows one"),
    pytest.param(lambda s: s.update(profiles=["整宿没合眼"]), 1, "<- 整宿", id="a profile that knows one"),
    pytest.param(lambda s: s["frames"]["train"].append("{lay}咋办"), 2, "of train must hold both {lay} and {ask}", id="no ask"),
    pytest.param(lambda s: s["frames"]["heldout"].append("{ask}吗"), 2, "frame '{ask}吗' of heldout must hold", id="no lay"),
    pytest.param(lambda s: s["aspects"]["risk"].update(heldout=["咋服"]), 2, "sleep, risk: no new heldout question", id="too few frames"),
    pytest.param(lambda s: s["concepts"][0].pop("heldout"), 2, "'heldout' is missing", id="no held-out phrases"),
    pytest.param(lambda s: s.pop("frames"), 2, "'frames' is missing", id="no frames"),
]


@pytest.mark.parametrize(("change", "code", "message"), REFUSED)
def test_a_source_that_cannot_be_used_is_refused_and_nothing_is_written(make, tmp_path, change, code, message):
    done = make(change)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert written(tmp_path) == ["source.yaml"]


def test_no_source_and_no_yaml_are_one_line(run, tmp_path):
    done = run("make_sample", tmp_path / "none")
    assert (done.code, done.err) == (2, f"error: No such file or directory: {tmp_path / 'none/source.yaml'}")
    (tmp_path / "source.yaml").write_text("a: [1\n")
    done = run("make_sample", tmp_path)
    assert (done.code, done.err.count("\n")) == (2, 0)
    assert "source.yaml is not readable as YAML" in done.err
