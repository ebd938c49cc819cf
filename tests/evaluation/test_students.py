"""A model's folder answers the same by transformers and by vLLM, as a whole model and as an adapter on its base."""

import json
import shutil

import pytest
from overtake.evaluation import students

CONVERSATIONS = [[{"role": "user", "content": text}] for text in ("失眠怎么办", "胶原蛋白怎么吃，一天几次？", "睡")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A random Qwen3 that writes characters, far from every tie, and a LoRA adapter that makes it write others."""
    import torch
    from peft import LoraConfig, get_peft_model
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from demo.tiny_students.students import make_model

    characters = sorted({character for one in CONVERSATIONS for character in one[0]["content"]})
    vocabulary = {token: at for at, token in enumerate(["<end>", "<unk>", "<user>", *characters])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Split(Regex(r"<user>|[\s\S]"), "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<end>", unk_token="<unk>")
    tokenizer.chat_template = "{% for message in messages %}<user>{{ message.content }}{% endfor %}<user>"
    model = make_model(tokenizer, 128, 2, 20)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.mul_(8)
    folder = tmp_path_factory.mktemp("students")
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    torch.manual_seed(20)
    tuned = get_peft_model(model, LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False))
    tuned.save_pretrained(folder / "adapter")
    path = folder / "adapter/adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": str(folder / "base")}))
    return folder


@pytest.mark.slow
def test_vllm_says_what_transformers_says_and_tells_of_each_answer(folders, capfd):
    found = []
    # As its own folder says it was trained, also once it is merged: the template here opens every answer otherwise.
    (folders / "adapter/args.json").write_text('{"enable_thinking": true}')
    template = (folders / "base/chat_template.jinja").read_text()
    (folders / "base/chat_template.jinja").write_text(template + "{% if enable_thinking %}睡{% endif %}")
    for name in ("base", "adapter"):
        wanted = students.from_folder(folders / name, CONVERSATIONS, limit=8)
        told = []
        assert students.from_vllm(folders / name, CONVERSATIONS, limit=8, tell=told.extend) == wanted
        assert [(at, text) for at, text, _ in told] == list(enumerate(wanted))
        assert all(cost.seconds > 0 and cost.tokens > 8 for _, _, cost in told)
        found.append(wanted)
    assert found[0] != found[1] and all(map(len, found[0]))
    assert "(EngineCore" not in capfd.readouterr().out, "what an engine tells of itself would stand among the tables"


def test_vllm_answers_where_its_start_is_earned_back(tmp_path, monkeypatch):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    for folder in (base, adapter):
        folder.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    with (base / "model.safetensors").open("wb") as file:
        file.truncate(10**9)  # 0.5 billion weights
    many, few = CONVERSATIONS[1:2] * 480, CONVERSATIONS[1:2] * 40
    monkeypatch.setattr(students, "find_spec", lambda name: name)
    assert [students.faster_by_vllm(folder, many, 48) for folder in (base, adapter)] == [True, True]
    assert [students.faster_by_vllm(base, few, limit) for limit in (48, 2048)] == [False, True]
    with (base / "model.safetensors").open("wb") as file:
        file.truncate(10**6)
    assert not students.faster_by_vllm(base, many, 48), "a small model is done before vLLM has started"
    monkeypatch.setattr(students, "find_spec", lambda _: None)
    assert not students.faster_by_vllm(adapter, many, 10**9), "where it is not installed"


@pytest.mark.parametrize("ask", [students.from_folder, students.from_vllm])
def test_a_folder_without_a_model_is_named(tmp_path, ask):
    with pytest.raises(students.BadInput, match=r"holds neither config\.json nor adapter_config\.json"):
        ask(tmp_path, CONVERSATIONS, limit=8)


def test_f65_a_tokenizer_without_a_chat_template_is_named_with_the_remedy(folders, tmp_path):
    folder = tmp_path / "无模板 model"
    shutil.copytree(folders / "base", folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(students.BadInput, match=r"无模板 model: its tokenizer has no chat template, .* take the instruct model"):
        students.from_folder(folder, CONVERSATIONS, limit=8)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"base_model_name_or_path": "/no/such/base"}, r"lora is an adapter on /no/such/base, which is not there: correct"),
        ({"base_model_name_or_path": "../gone"}, r"lora is an adapter on \.\./gone, which is not there: correct"),
        ({"base_model_name_or_path": None}, r"lora: its adapter_config\.json names no base model: write"),
        ({}, r"lora: its adapter_config\.json names no base model: write"),
        ([], r"adapter_config\.json is no JSON object: take another"),
    ],
)
def test_f66_an_adapter_whose_base_is_gone_or_not_said_names_both(tmp_path, config, message):
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora/adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(students.BadInput, match=message):
        students.from_folder(tmp_path / "lora", CONVERSATIONS, limit=8)
