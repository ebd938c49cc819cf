"""A teacher that cannot teach this student is told before a model is loaded: another tokenizer, a closed API, flags that do not fit."""

import json
from types import SimpleNamespace

import pytest
from overtake.doctor import memory, teacher
from overtake.doctor.command import Command

WORDS = ["<|im_start|>", "<|im_end|>", *"abcdefghijklmnopqrstuvwxyz0123456789 .?%,", "\n"]


def model(folder, words, rows=None, template=""):
    """A folder with a tokenizer that spells, of these words, and a model's sizes."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    folder.mkdir()
    spelling = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token=words[0]))
    spelling.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    spelling.decoder = decoders.Fuse()
    spelling.save(str(folder / "tokenizer.json"))
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "num_attention_heads": 2}
    (folder / "config.json").write_text(json.dumps({"vocab_size": rows or len(words), **sizes}), encoding="utf-8")
    return folder


@pytest.fixture
def student(tmp_path):
    return model(tmp_path / "student", WORDS)


def command(student, environment=None, **flags):
    given = {"rlhf_type": ["grpo"], "model": [str(student)], "temperature": ["1.0"]}
    return Command(environment or {}, "rlhf", given | {name: str(value).split() for name, value in flags.items()})


def errors(found):
    return [one.value for one in found if one.level == "error"]


def test_a_run_without_a_teacher_is_not_looked_at(student):
    assert list(teacher.findings(command(student), [{}])) == []


def test_a_teacher_of_the_same_tokenizer_is_in_order_also_where_it_has_more_rows(student, tmp_path):
    same = model(tmp_path / "teacher", WORDS, rows=100)
    assert [one.level for one in teacher.findings(command(student, teacher_model=same), [])] == ["ok"]


def test_another_tokenizer_is_told_with_what_differs(student, tmp_path):
    shifted = model(tmp_path / "teacher", [WORDS[1], WORDS[0], *WORDS[2:]])
    [words] = errors(teacher.findings(command(student, teacher_model=shifted), []))
    assert "another tokenizer than the student: 2 of its" in words and "'<|im_start|>'" in words


def test_a_teacher_without_a_row_for_each_token_is_told(student, tmp_path):
    short = model(tmp_path / "teacher", WORDS, rows=len(WORDS) - 1)
    [words] = errors(teacher.findings(command(student, teacher_model=short), []))
    assert f"rows for {len(WORDS) - 1} tokens, the student's tokenizer writes {len(WORDS)}" in words


def served(serve, spell, models=({"id": "t", "owned_by": "vllm"},)):
    """The address of a vLLM whose tokens read as `spell` says."""
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def answer(self, value):
            data = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self):
            self.answer({"data": list(models)})

        def do_POST(self):
            ids = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["prompt"]
            self.answer(
                {"choices": [{"prompt_logprobs": [None, *({str(at): {"logprob": -1, "decoded_token": spell(at)}} for at in ids[1:])]}]}
            )

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return SimpleNamespace(url=f"http://127.0.0.1:{server.server_address[1]}/v1", stop=server.shutdown)


def test_a_served_teacher_is_asked_which_tokens_it_reads(student, serve):
    same, other = served(serve, WORDS.__getitem__), served(serve, lambda at: WORDS[at - 1])
    assert errors(teacher.findings(command(student, teacher_model_server=same.url), [])) == []
    [words] = errors(teacher.findings(command(student, teacher_model_server=other.url), []))
    assert words.startswith("t at http://127.0.0.1") and "another tokenizer" in words
    same.stop(), other.stop()


def test_an_address_that_names_no_model_and_a_temperature_that_is_not_its_own_are_told(student, serve):
    nobody = served(serve, str, models=())
    found = errors(teacher.findings(command(student, teacher_model_server=nobody.url, temperature=0.7), []))
    assert any("names no model at /v1/models" in words for words in found)
    assert any("--temperature 0.7, and a server's log-probabilities are of 1" in words for words in found)
    nobody.stop()


def test_the_student_alone_needs_its_column(student):
    own = command(student, {"OVERTAKE_SELF_TEACHER": "1"})
    assert errors(teacher.findings(own, [{"teacher_prompt": "q"}, {}, {}])) == [
        "DISTILL_FROM=self reads the column teacher_prompt, blank in 2 of 3 rows"
    ]
    assert errors(teacher.findings(own, [{"teacher_prompt": "q"}])) == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"loss_type": "fipo"}, "--loss_type fipo beside a teacher"),
        ({"use_liger_kernel": "true"}, "--use_liger_kernel true"),
        ({"off_policy_sequence_mask_delta": "0.1"}, "--off_policy_sequence_mask_delta"),
        ({"dynamic_sample": "true"}, "--dynamic_sample true without a reward"),
        ({"scale_rewards": "gdpo"}, "--scale_rewards gdpo without a reward"),
        ({"teacher_adapters": "/nowhere"}, "/nowhere holds no adapter_config.json"),
    ],
)
def test_flags_that_do_not_go_with_a_teacher_are_told(student, tmp_path, flags, words):
    same = model(tmp_path / "teacher", WORDS)
    assert words in errors(teacher.findings(command(student, teacher_model=same, **flags), []))[0]


def test_a_teacher_on_the_card_is_counted_but_not_the_policy_without_its_adapters():
    flags = {"tuner_type": "lora", "per_device_train_batch_size": 4, "max_length": 1024, "max_completion_length": 128}
    small, large = "Qwen/Qwen3-0.6B", "Qwen/Qwen3-8B"

    def need(**more):
        counted = command(small, {"CUDA_VISIBLE_DEVICES": "0"}, **flags, **more)
        return memory.need(counted, memory.SHAPES[small], None, 24.1)

    alone, beside, itself = need(), need(teacher_model=large), need(teacher_model=small)
    weights = memory.SHAPES[large].weights * 2 / 1e9
    logits = 4 * 128 * memory.SHAPES[large].vocab * 4 / 1e9
    assert beside.training["teacher"] == pytest.approx(weights + logits)
    assert beside.card == pytest.approx(alone.card + weights + logits)
    assert "teacher" not in itself.training
    colocated = {"use_vllm": "true", "vllm_mode": "colocate", "vllm_gpu_memory_utilization": 0.4}
    assert need(teacher_model=large, **colocated).sampling == pytest.approx(need(**colocated).sampling + weights), (
        "vLLM finds it on the card"
    )
    aside = need(teacher_model=large, offload_teacher_model="true", **colocated)
    assert (aside.sampling, aside.host > weights) == (pytest.approx(need(**colocated).sampling), True)
