"""tiny_model.py: a tokenizer that spells, ms-swift's chat form, weights that follow the seed, lessons of documents only."""

import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from overtake.data.tables import BadInput
from overtake.retrieval.corpus import Document
from overtake.tasks.query_rewrite import prompts

TOOL = Path(__file__).parents[2] / "demo/tiny_students/tiny_model.py"
spec = importlib.util.spec_from_file_location("tiny_model", TOOL)
tiny_model = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny_model)

pytestmark = pytest.mark.usefixtures("fresh")
DOCUMENTS = [
    Document("a", "褪黑素：作用", "褪黑素改善睡眠障碍，缩短入睡时间；褪黑素不治失眠的病因。"),
    Document("b", "褪黑素：用量", "褪黑素睡前半小时服用，每次一片，睡眠障碍者可连服一周。"),
    Document("c", "胶原蛋白：作用", "胶原蛋白改善皮肤松弛，配合维生素C与omega-3服用更好。"),
]
LINES = sorted({line for tenant in prompts.tenants() for line in prompts.prompt(f"rewrite_{tenant}").splitlines() if line.strip()})


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_model.make_tokenizer(DOCUMENTS, LINES, ["数羊 到天亮", "extra words"], read_words=True)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kb")
    rows = [{"_id": one.id, "title": one.title, "text": one.text} for one in DOCUMENTS]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize(
    "text",
    [
        "褪黑素改善睡眠障碍，缩短入睡时间",
        "褪黑素 睡眠障碍 皮肤松弛",  # words of the documents behind spaces
        "omega-3 and  vitamin C, 100%!",  # letters, a double space
        " 褪黑素",
        "一行\n数羊 到天亮",
        "问题：皮肤？“不要”解释！",  # characters of the prompts, punctuation that no document holds
    ],
)
def test_text_comes_back_from_its_tokens(tokenizer, text):
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_only_a_character_it_never_saw_is_lost(tokenizer):
    ids = tokenizer("睡😀眠").input_ids
    assert ids[1] == tokenizer.unk_token_id
    assert (tokenizer.decode(ids), tokenizer.decode(ids, skip_special_tokens=True)) == ("睡<unk>眠", "睡眠")


def test_a_known_word_is_one_token_with_and_without_a_space_and_an_unknown_one_its_characters(tokenizer):
    tokens = tokenizer.convert_ids_to_tokens
    assert tokens(tokenizer("服 褪黑素 服用").input_ids)[-2:] == [" 褪黑素", " 服用"]  # words of two documents
    assert tokens(tokenizer(" 到天亮").input_ids) == [" 到天亮"]  # a word of a training text
    assert tokens(tokenizer("服用").input_ids) == ["服用"]
    assert tokens(tokenizer("服不用").input_ids) == ["服", "不", "用"]


def test_without_read_words_a_question_falls_into_characters_and_a_rewrite_into_words():
    tokenizer = tiny_model.make_tokenizer(DOCUMENTS, LINES, ["数羊 到天亮"])
    assert tokenizer.convert_ids_to_tokens(tokenizer("服用 服用").input_ids) == ["服", "用", " 服用"]


def test_every_prompt_line_is_one_token(tokenizer):
    for line in LINES:
        assert len(tokenizer(line).input_ids) == 1, line
    system = prompts.prompt("rewrite_fivedoctors")
    assert len(tokenizer(system).input_ids) == 2 * len(system.splitlines()) - 1  # the lines and the breaks between
    assert tokenizer.decode(tokenizer(system).input_ids) == system


def test_a_prompt_takes_the_tokens_of_ms_swifts_qwen3_template(corpus, tmp_path):
    assert tiny_model.main([str(tmp_path / "model"), "--corpus", str(corpus), "--steps", "0", "--width", "32"]) == 0
    from swift.model import get_processor
    from swift.template import get_template
    from transformers import AutoTokenizer

    processor = get_processor(str(tmp_path / "model"), model_type="qwen3", download_model=False)
    template = get_template(processor, template_type="qwen3", enable_thinking=False)
    template.set_mode("transformers")
    own = AutoTokenizer.from_pretrained(tmp_path / "model")
    for messages in (
        prompts.rewrite_messages("fivedoctors", "睡不着，每次一片？"),
        prompts.rewrite_messages("default", "omega-3 服用", "三十岁", "问过 褪黑素"),
    ):
        ours = own.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=False)
        assert own(ours, add_special_tokens=False).input_ids == template.encode({"messages": messages})["input_ids"]
        # In training the answer and the end of the turn follow.
        template.set_mode("train")
        trained = template.encode({"messages": [*messages, {"role": "assistant", "content": "褪黑素 服用"}]})
        template.set_mode("transformers")
        given, wanted = own(ours, add_special_tokens=False).input_ids, [*own("褪黑素 服用").input_ids, own.eos_token_id]
        assert trained["input_ids"][: len(given + wanted)] == given + wanted
        assert trained["labels"][len(given) : len(given + wanted)] == wanted


def weights(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_seed_makes_the_same_files_in_any_process(corpus, tmp_path):
    arguments = ["--corpus", str(corpus), "--steps", "2", "--width", "32"]
    env = os.environ | {"PYTHONHASHSEED": "1"}
    subprocess.run(
        [sys.executable, "-m", "demo.tiny_students.tiny_model", str(tmp_path / "a"), *arguments],
        cwd=TOOL.parents[2],
        env=env,
        check=True,
        capture_output=True,
    )
    assert tiny_model.main([str(tmp_path / "b"), *arguments]) == 0
    assert tiny_model.main([str(tmp_path / "c"), *arguments, "--seed", "21"]) == 0
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    one, other = weights(tmp_path / "a"), weights(tmp_path / "c")
    assert one["model.safetensors"] != other["model.safetensors"]
    assert one["tokenizer.json"] == other["tokenizer.json"]


def test_training_changes_every_weight_and_says_its_loss(corpus, tmp_path, capsys):
    for steps in ("0", "2"):
        assert tiny_model.main([str(tmp_path / steps), "--corpus", str(corpus), "--steps", steps, "--width", "32"]) == 0
    from safetensors.torch import load_file

    before, after = (load_file(tmp_path / steps / "model.safetensors") for steps in ("0", "2"))
    assert before.keys() == after.keys() and not any(before[name].equal(after[name]) for name in before)
    said = capsys.readouterr().out.splitlines()
    assert said[1].startswith(f"{tmp_path / '2'}: Qwen3 of 0.") and ", 2 steps, loss " in said[1]


def test_lessons_come_from_documents_and_hold_no_question():
    question = "数羊到天亮咋整呀"
    assert not set(question) & {c for one in DOCUMENTS for c in one.text}
    pairs = tiny_model.lessons(DOCUMENTS, random.Random(1))
    found = [next(pairs) for _ in range(300)]
    characters = {c for one in DOCUMENTS for c in one.text}
    assert {c for source, _ in found for c in source} <= characters
    known = {word for one in DOCUMENTS for word in tiny_model.words(f"{one.title} {one.text}")} | {"褪黑素", "胶原蛋白"}
    assert {word for _, target in found for word in target.split()} <= known
    again = tiny_model.lessons(DOCUMENTS, random.Random(1))
    assert found == [next(again) for _ in range(300)]


def test_lessons_of_documents_in_english_go_on():
    pairs = tiny_model.lessons([Document("a", "Sleep", "melatonin shortens sleep latency")], random.Random(1))
    assert all(source.isascii() for source, _ in (next(pairs) for _ in range(50)))


def test_documents_that_repeat_no_word_make_a_model_too(run, tmp_path):
    (tmp_path / "one.jsonl").write_text('{"_id": "a", "text": "虾青素抗氧化"}\n')
    assert run("tiny_model", tmp_path / "out", "--corpus", tmp_path / "one.jsonl", "--steps", "1", "--width", "32").code == 0


def test_documents_without_a_clause_teach_nothing():
    with pytest.raises(BadInput, match="none of the 1 documents holds a clause"):
        next(tiny_model.lessons([Document("a", "题", "短，短。")], random.Random(1)))


def test_a_folder_that_holds_something_is_refused_and_left_alone(run, corpus, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/config.json").write_text("mine")
    done = run("tiny_model", tmp_path / "out", "--corpus", corpus, "--steps", "0")
    assert (done.code, done.err) == (2, f"error: {tmp_path / 'out'} is there already: choose another folder or remove it")
    assert (tmp_path / "out/config.json").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--corpus", "nowhere"], "nowhere: no such file"),
        (["--corpus", "{corpus}", "--tenant", "nobody"], "no prompt 'rewrite_nobody'; there are: "),
        (["--corpus", "{corpus}", "--texts", "{corpus}/corpus.jsonl"], "a row without messages"),
        (["--corpus", "{corpus}", "--texts", "nowhere"], "No such file or directory: nowhere"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(run, corpus, tmp_path, arguments, message):
    done = run("tiny_model", tmp_path / "out", *(argument.format(corpus=corpus) for argument in arguments))
    assert (done.code, done.err.count("\n")) == (2, 0)
    assert message in done.err
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == []
