"""One prompt a task, whether it is trained on, sampled from, evaluated or served: rendered by ms-swift's own templates, family by family.

Qwen2.5's template and words are those of the fetched model, where it is there. The others' chat templates are ours, written by these
rules of their families: after the system's and the user's turns a prompt ends with the assistant's head, and behind that
  Qwen3, hybrid        an empty think block and a blank line, unless it is told to think; then nothing
  Qwen3-2507 instruct  nothing, whatever it is told
  Qwen3-2507 thinking  an opened think block and a line end, whatever it is told
  R1-Distill           the same, behind a head of its own; the system's text stands at the very beginning
ms-swift opens no block where it is told not to think.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from overtake import tasks, thinking
from overtake.evaluation import students
from overtake.remote.gateway import Ok
from overtake.table_task import table_task
from overtake.task import THINKING_COLUMN, Decoding, Metric

QWEN25 = Path("~/.cache/overtake-models/Qwen2.5-Coder-0.5B-Instruct").expanduser()
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{{ '<|im_start|>assistant\n' }}"
DEEPSEEK = (
    "<｜begin▁of▁sentence｜>{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% else %}"
    "<｜User｜>{{ m.content }}{% endif %}{% endfor %}<｜Assistant｜>"
)
HYBRID = "{% if not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
OPENED = "{{ '<think>\n' }}"
OPEN, EMPTY = "<think>\n", "<think>\n\n</think>\n\n"
FAMILIES = {
    # ms-swift's name of the template, the chat template, what a prompt ends with: thinking on, off, absent
    "Qwen2.5": ("qwen2_5", CHATML, ("", "", "")),
    "Qwen3 hybrid": ("qwen3", CHATML + HYBRID, ("", EMPTY, EMPTY)),
    "Qwen3-2507 instruct": ("qwen3_nothinking", CHATML, ("", "", "")),
    "Qwen3-2507 thinking": ("qwen3_thinking", CHATML + OPENED, (OPEN, "", OPEN)),
    "R1-Distill": ("deepseek_r1", DEEPSEEK + OPENED, (OPEN, "", OPEN)),
}
HEADS = {"R1-Distill": "<｜Assistant｜>"}
MESSAGES = [{"role": "system", "content": "You rewrite."}, {"role": "user", "content": "睡不着怎么办？"}]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    """(name, its tokenizer, make(thinking) -> ms-swift's template for a trainer or a server)."""
    from swift.model import get_processor
    from swift.template import get_template
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    template, chat, _ = FAMILIES[request.param]
    model_type = "qwen2"
    if request.param == "Qwen2.5" and QWEN25.is_dir():
        folder = QWEN25
    else:
        folder = tmp_path_factory.mktemp("model")
        marks = ["<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"]
        marks += ["<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"]
        words = sorted(set(chat + json.dumps(MESSAGES, ensure_ascii=False) + "\n答案思考"))
        made = Tokenizer(models.WordLevel({word: at for at, word in enumerate([*marks, *words])}, unk_token="<unk>"))
        made.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
        made.decoder = decoders.Fuse()
        fast = PreTrainedTokenizerFast(
            tokenizer_object=made, additional_special_tokens=marks, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token="<unk>"
        )
        fast.chat_template = chat
        fast.save_pretrained(folder)
        model_type = "qwen3"  # the transformers library reads another kind of tokenizer under the older name
        config = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "max_position_embeddings": 4096}
        (folder / "config.json").write_text(json.dumps(config))
    processor = get_processor(str(folder), model_type=model_type, download_model=False)

    def make(enable_thinking):
        return get_template(processor, template_type=template, enable_thinking=enable_thinking)

    return request.param, processor, make


def rendered(template, mode, messages, **row):
    template.set_mode(mode)
    return template.tokenizer.decode(template.encode({"messages": [dict(one) for one in messages], **row})["input_ids"])


@pytest.mark.parametrize(("at", "told"), [(0, True), (1, False), (2, None)])
def test_training_rollout_evaluation_and_use_have_one_prompt(family, at, told):
    name, tokenizer, make = family
    wanted = HEADS.get(name, "<|im_start|>assistant\n") + FAMILIES[name][2][at]
    evaluated = thinking.prompt(tokenizer, MESSAGES, told)
    assert evaluated.endswith(wanted)
    for mode in ("transformers", "vllm"):  # a rollout and a served answer, by either engine
        assert rendered(make(told), mode, MESSAGES) == evaluated
    # A row that says it for itself has the prompt of a model that was told so.
    if told is not None:
        assert rendered(make(None), "transformers", MESSAGES, **{THINKING_COLUMN: {"enable_thinking": told}}) == evaluated
    # SFT: the answer follows the same text; with a thought where there is to be one.
    answer = "<think>\n思考\n</think>\n\n答案" if told else "答案"
    trained = rendered(make(told), "train", [*MESSAGES, {"role": "assistant", "content": answer}])
    unsaid = told is None and FAMILIES[name][2][at] == OPEN  # a reasoning model is told nothing and its rows hold no thought
    assert trained.startswith(evaluated) != unsaid
    assert answer in trained[len(evaluated) - len(OPEN) :]


@pytest.mark.parametrize("task", tasks.shipped().values(), ids=tasks.shipped())
def test_what_a_task_says_is_what_ms_swift_is_told(task):
    thinks = task.decoding.thinks({})
    assert task.decoding.flags == ["--enable_thinking", str(thinks).lower()]
    assert thinks == (task.called != "query_rewrite")


def test_a_row_out_of_form_is_named():
    with pytest.raises(ValueError, match=r"chat_template_kwargs is '\[1\]': write \{\"enable_thinking\": true\} or false"):
        Decoding(8, thinking="rows").thinks({THINKING_COLUMN: "[1]"})
    with pytest.raises(ValueError, match="thinking=True is none of off, on, rows"):
        Decoding(8, thinking=True)


def test_a_checkpoint_says_how_it_was_trained(tmp_path):
    assert thinking.trained(tmp_path) is None
    for said in (True, False, None):
        (tmp_path / "args.json").write_text(json.dumps({"enable_thinking": said}))
        assert thinking.trained(tmp_path) is said
    (tmp_path / "args.json").write_text("[]")
    with pytest.raises(ValueError, match=r"args\.json is no JSON object: take another checkpoint"):
        thinking.trained(tmp_path)


@dataclass
class Sum:
    id: str
    question: str


def test_a_task_whose_rows_say_whether_they_think_is_converted_and_asked_so(tmp_path, monkeypatch):
    task = table_task(
        "sums",
        Sum,
        messages=lambda row: [{"role": "user", "content": row.question}],
        measure=lambda text, row: {"right": 1.0},
        honest=lambda row: "2",
        rewards=[],
        metrics=[Metric("right")],
        decoding=Decoding(64, thinking="rows"),
    )
    answers = ["<think>\n1 and 1\n</think>\n\n2" if at % 2 else "2" for at in range(40)]
    lines = [{"id": str(at), "question": f"1+1+{at * 7919}?", "teacher_output": text} for at, text in enumerate(answers)]
    (tmp_path / "answered.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    convert = task.stage("convert")
    assert convert.work(argparse.Namespace(input=tmp_path / "answered.jsonl", out_dir=tmp_path / "data", seed=1, least=0.5)) == 0
    for file in ("train.jsonl", "rl_train.jsonl", "test.jsonl"):
        for line in map(json.loads, (tmp_path / "data" / file).read_text().splitlines()):
            asked = next(one["content"] for one in line["messages"] if one["role"] == "user")
            at = next(at for at, known in enumerate(lines) if known["question"] == asked)
            assert line[THINKING_COLUMN] == {"enable_thinking": bool(at % 2)}
    held_out = task.evaluation.read(argparse.Namespace(test=tmp_path / "data/test.jsonl"))
    thinks = [task.decoding.thinks(row) for row in held_out]
    assert thinks == [int(row["id"]) % 2 == 1 for row in held_out] and len(set(thinks)) == 2
    bodies = []
    monkeypatch.setattr(students.cli, "ask", lambda gateway, calls, *_: [bodies.append(call.body()) or Ok({"text": "2"}) for call in calls])
    conversations = [task.evaluation.messages(row) for row in held_out]
    students.from_endpoint("m", "http://127.0.0.1:9/v1", "", conversations, 64, thinks, announced=True)
    assert [body["chat_template_kwargs"] for body in bodies] == [{"enable_thinking": one} for one in thinks]
    bodies.clear()
    students.from_endpoint("m", "http://127.0.0.1:9/v1", "", conversations, 64, thinks)
    assert not any("chat_template_kwargs" in body for body in bodies), "a service that does not know it might refuse it"
