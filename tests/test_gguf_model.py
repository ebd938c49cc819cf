"""A GGUF file becomes a folder that can be trained; what cannot be unpacked is refused in one line, and nothing is written."""

import json

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter
from overtake import gguf_model
from overtake.data.tables import BadInput

CHATML = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
WIDTH, VOCABULARY = 32, 261


def spelled():
    """The tokens of a tokenizer of bytes, as GGUF names them: each byte a sign that is printed, and three marks."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return [*bytes_to_unicode().values(), "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>", "ab"]


@pytest.fixture
def written(tmp_path):
    """written(**changes) -> a GGUF file of a small llama of one layer; changes take the place of what stands there, None leaves it out."""

    def written(architecture="llama", template=CHATML, tokens=True, kind="model", quantised=None, split=None):
        path = tmp_path / "small.gguf"
        writer = GGUFWriter(path, architecture)
        writer.add_type(kind)
        writer.add_name("small")
        writer.add_context_length(64)
        writer.add_embedding_length(WIDTH)
        writer.add_block_count(1)
        writer.add_feed_forward_length(2 * WIDTH)
        writer.add_head_count(2)
        writer.add_head_count_kv(2)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_freq_base(10000.0)
        writer.add_vocab_size(VOCABULARY)
        if split:
            writer.add_uint16("split.count", split)
        if tokens:
            writer.add_tokenizer_model("gpt2")
            writer.add_tokenizer_pre("default")
            writer.add_token_list(spelled())
            writer.add_token_types([1] * 256 + [3] * 4 + [1])
            writer.add_token_merges(["a b"])
            writer.add_bos_token_id(257)
            writer.add_eos_token_id(258)
        if template:
            writer.add_chat_template(template)
        rng = np.random.default_rng(0)
        shapes = {"token_embd": (VOCABULARY, WIDTH), "output_norm": (WIDTH,), "output": (VOCABULARY, WIDTH)}
        shapes |= {f"blk.0.attn_{name}": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")}
        shapes |= {"blk.0.attn_norm": (WIDTH,), "blk.0.ffn_norm": (WIDTH,)}
        shapes |= {"blk.0.ffn_gate": (2 * WIDTH, WIDTH), "blk.0.ffn_up": (2 * WIDTH, WIDTH), "blk.0.ffn_down": (WIDTH, 2 * WIDTH)}
        for name, shape in shapes.items():
            writer.add_tensor(f"{name}.weight", rng.normal(size=shape).astype(np.float32))
        if quantised:
            writer.add_tensor("extra.weight", np.zeros((1, WIDTH), np.int8), raw_dtype=quantised)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return written


def refused(path, tmp_path):
    with pytest.raises(BadInput) as error:
        reader = gguf_model.read_header(path)
        gguf_model.check(path, reader)
        gguf_model.check_room(path, reader, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "nosuch"}, "architecture nosuch cannot be unpacked; there are "),
        ({"template": ""}, "holds no chat template: it is a base model; take the instruct model's file"),
        ({"tokens": False}, "holds no tokenizer"),
        ({"kind": "adapter"}, "is of type adapter, no model"),
        ({"split": 3}, "is one of 3 parts: join them with llama-gguf-split --merge"),
        ({"quantised": GGMLQuantizationType.I8}, "weights of type I8 cannot be unpacked: take a file of the model in another type"),
    ],
)
def test_what_cannot_be_unpacked_is_refused_before_anything_is_written(written, tmp_path, changes, message):
    assert message in refused(written(**changes), tmp_path)


def test_another_file_and_half_a_file_are_told(written, tmp_path):
    other = tmp_path / "other.gguf"
    other.write_bytes(b"PK\x03\x04")
    assert "is no GGUF file: it begins with b'PK" in refused(other, tmp_path)
    whole = written().read_bytes()
    (tmp_path / "half.gguf").write_bytes(whole[: len(whole) // 2])
    assert "fetch it again" in refused(tmp_path / "half.gguf", tmp_path)
    assert "is no file" in refused(tmp_path / "nowhere.gguf", tmp_path)


def test_too_little_room_is_said(written, tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_model, "_MEMORY", 1e12)
    assert "GB of memory" in refused(written(), tmp_path)


def test_a_small_file_becomes_a_folder_with_its_weights_template_and_tokenizer(written, tmp_path, run):
    done = run(gguf_model, written(), tmp_path / "out")
    assert (done.code, done.err) == (0, "")
    config = json.loads((tmp_path / "out/config.json").read_text("utf-8"))
    assert (config["architectures"], config["hidden_size"], config["vocab_size"]) == (["LlamaForCausalLM"], WIDTH, VOCABULARY)
    assert "quantization_config" not in config
    assert "<|im_start|>" in (tmp_path / "out/chat_template.jinja").read_text("utf-8")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    wanted = np.random.default_rng(0).normal(size=(VOCABULARY, WIDTH)).astype(np.float32)
    weights = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="float32").model.embed_tokens.weight.detach().numpy()
    assert np.abs(weights - wanted).max() < 0.02  # bf16
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.eos_token == "<|im_end|>"
    again = run(gguf_model, written(), tmp_path / "out")
    assert (again.code, again.err) == (2, f"error: {tmp_path / 'out'} already exists: name another folder, or remove it")
