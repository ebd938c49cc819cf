"""Models for the tests: folders of tiny random ones that sentence-transformers really loads, and an endpoint that knows two meanings."""

import hashlib
import math

import pytest
from overtake import settings

_CHARACTERS = "褪黑素帮助入睡眠失虾青抗氧化保护皮肤胶原蛋白改善弹性不好怎么办 abcdefghijklmnopqrstuvwxyz0123456789"


@pytest.fixture(autouse=True)
def fresh_settings():
    settings.load.cache_clear()
    yield
    settings.load.cache_clear()


def _tokenizer(folder):
    from transformers import BertTokenizerFast

    folder.mkdir()
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(_CHARACTERS.replace(" ", "")), "##a"]
    (folder / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")
    return BertTokenizerFast(vocab_file=str(folder / "vocab.txt")), len(tokens)


def _config(size, **more):
    from transformers import BertConfig

    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    return BertConfig(vocab_size=size, max_position_embeddings=64, **small, **more)


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory):
    """A sentence-transformers model of random weights; equal texts have equal vectors, and that is all it knows."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules as parts
    from transformers import BertModel

    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    tokenizer, size = _tokenizer(folder / "bert")
    BertModel(_config(size)).save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    inner = parts.Transformer(str(folder / "bert"), max_seq_length=64)
    SentenceTransformer(modules=[inner, parts.Pooling(16)], device="cpu").save(str(folder / "tiny-encoder"))
    return folder / "tiny-encoder"


@pytest.fixture(scope="session")
def reranker_folder(tmp_path_factory):
    """A function of the number of labels: a sequence classifier of random weights that CrossEncoder loads."""
    import torch
    from transformers import BertForSequenceClassification

    def made(labels=1):
        folder = tmp_path_factory.mktemp("reranker")
        torch.manual_seed(0)
        tokenizer, size = _tokenizer(folder / "tiny-reranker")
        model = BertForSequenceClassification(_config(size, num_labels=labels))
        torch.nn.init.normal_(model.classifier.weight, std=3.0)  # or all scores are .5
        model.save_pretrained(folder / "tiny-reranker")
        tokenizer.save_pretrained(folder / "tiny-reranker")
        return folder / "tiny-reranker"

    return made


def meaning(text):
    """A vector of four numbers: sleep, skin, and two that only equal texts share."""
    noise = hashlib.sha256(text.encode()).digest()
    sleep = any(word in text for word in ("失眠", "褪黑素", "睡不着"))
    skin = any(word in text for word in ("胶原蛋白", "显老", "皮肤"))
    return [3.0 * sleep, 3.0 * skin, math.cos(noise[0]), math.sin(noise[0])]


@pytest.fixture
def embedding(serve):
    """An OpenAI-compatible /v1/embeddings; `.down` may be set to a status that it then answers with."""
    state = {"down": 0}

    def answer(body):
        if state["down"]:
            return state["down"], {"error": "overloaded"}
        rows = [{"index": place, "embedding": meaning(text)} for place, text in enumerate(body["input"])]
        return 200, {"object": "list", "model": body["model"], "data": rows[::-1]}

    made = serve(answer)
    made.state = state
    return made
