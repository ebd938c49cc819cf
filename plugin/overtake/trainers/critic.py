"""The critic of PPO: a language model with a value head, which says before each token what reward is still to come."""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from overtake.data.tables import BadInput

FOLDER = "critic"
"""Of a checkpoint, where its critic lies."""


def folder_of(name: str) -> str:
    """The folder of a model, which the hub that ms-swift uses gives when it is none here. Raises ValueError or OSError without one."""
    from swift.utils import safe_snapshot_download

    return str(Path(name)) if Path(name).is_dir() else str(safe_snapshot_download(name, check_local=False))


def from_model(folder: str, dtype: Any = "auto") -> Any:
    """The model in `folder` with a value head in the place of its language head.

    The head of a model that never was a critic is zero: it begins by expecting nothing. Raises ValueError for a model that transformers
    knows no such head for.
    """
    from transformers import AutoConfig, AutoModelForTokenClassification

    config = AutoConfig.from_pretrained(folder)
    # A value must not depend on chance.
    config.classifier_dropout = 0.0
    was_critic = any("TokenClassification" in name for name in config.architectures or ()) and config.num_labels == 1
    config.num_labels = 1
    try:
        model = AutoModelForTokenClassification.from_pretrained(folder, config=config, dtype=dtype)
    except ValueError as error:
        raise ValueError(f"{folder} cannot be a critic: {str(error).splitlines()[0]}; name another model in OVERTAKE_CRITIC") from None
    if not was_critic:
        with _whole(model.score.parameters()):
            for parameter in model.score.parameters():
                parameter.data.zero_()
    return model


def _whole(parameters: Any) -> Any:
    """Parameters as a whole, where ZeRO-3 has cut them up."""
    from contextlib import nullcontext

    from transformers.integrations import is_deepspeed_zero3_enabled

    if not is_deepspeed_zero3_enabled():
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(list(parameters), modifier_rank=0)


def check_tokenizer(folder: str, tokenizer: Any) -> None:
    """Raise ValueError when the critic in `folder` reads other tokens than the policy writes."""
    from transformers import AutoTokenizer

    # Without one it is the policy's; transformers would make an empty one of the model's kind.
    if Path(folder).is_dir() and not any(Path(folder).glob("tokenizer*")):
        return
    own = AutoTokenizer.from_pretrained(folder)
    if own.get_vocab() != tokenizer.get_vocab():
        raise ValueError(
            f"the critic {folder} has another tokenizer than the policy ({len(own):,} and {len(tokenizer):,} tokens): name a model of "
            "the same family in OVERTAKE_CRITIC, or unset it to make one of the policy's own base"
        )


def with_lora(critic: Any, rank: int, alpha: int) -> Any:
    """The critic with adapters on all linear layers; they and the head are trained."""
    from peft import LoraConfig, TaskType, get_peft_model

    config = LoraConfig(task_type=TaskType.TOKEN_CLS, r=rank, lora_alpha=alpha, target_modules="all-linear", modules_to_save=["score"])
    return get_peft_model(critic, config)


def values(critic: Any, inputs: dict[str, Any], tokens: int) -> Tensor:
    """Return [completions, tokens]: what the critic expects before each of the last `tokens` tokens, in float32."""
    arguments = {name: inputs[name] for name in ("input_ids", "attention_mask", "position_ids") if inputs.get(name) is not None}
    logits: Tensor = critic(**arguments, use_cache=False).logits
    return logits[:, -(tokens + 1) : -1, 0].float()


def save(critic: Any, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
    """Write what was trained, and for a critic trained whole what is needed to use it as OVERTAKE_CRITIC again."""
    trained = {name for name, parameter in critic.named_parameters() if parameter.requires_grad}
    state = {name: tensor for name, tensor in (weights or critic.state_dict()).items() if name in trained}
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, folder / "model.safetensors", {"format": "pt"})
    if not hasattr(critic, "peft_config"):
        config = critic.config.to_dict() | {"architectures": [type(critic).__name__]}
        (folder / "config.json").write_text(json.dumps(config, indent=1, default=str), encoding="utf-8")


def load(critic: Any, folder: Path) -> None:
    """Put the weights that `save` wrote back. Raises ValueError when they are absent or not of this critic."""
    file = folder / "model.safetensors"
    if not file.is_file():
        raise ValueError(
            f"{folder.parent} holds no critic (critic/{file.name}), so PPO cannot go on from it: resume from a checkpoint of PPO, or start "
            "anew with SFT_ADAPTER= this one"
        )
    weights = load_file(file)
    trained = {name for name, parameter in critic.named_parameters() if parameter.requires_grad}
    if weights.keys() != trained:
        odd = sorted(weights.keys() ^ trained)
        raise ValueError(f"{file} is of another critic: {len(odd)} weights differ, {odd[0]} first; resume with the same critic and tuner")
    with torch.no_grad():
        for name, parameter in critic.named_parameters():
            if name in weights:
                parameter.copy_(weights[name])


def work(args: argparse.Namespace) -> int:
    """Write the critic of PPO that `args` ask for to a new folder; 0 done. Raises BadInput."""
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise BadInput(f"{args.out} is there already: choose another folder or remove it")
    from transformers import AutoTokenizer

    try:
        base = folder_of(args.base)
        tokenizer = AutoTokenizer.from_pretrained(base)
        if args.policy:
            check_tokenizer(base, AutoTokenizer.from_pretrained(folder_of(args.policy)))
        critic = from_model(base)
    except (OSError, ValueError) as error:
        raise BadInput(str(error).strip().splitlines()[0]) from None
    aside = args.out.with_name(args.out.name + ".aside")
    critic.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    aside.replace(args.out)
    millions = critic.num_parameters() / 1e6
    print(f"{args.out}: {type(critic).__name__} of {millions:.2f} M parameters, value head zero; name it in OVERTAKE_CRITIC")
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the tool's options."""
    parser.add_argument("base", help="folder or hub name of a language model, smaller than the policy or its base")
    parser.add_argument("out", type=Path, help="folder to write; refused when it holds anything")
    parser.add_argument("--policy", help="the model that PPO trains: check that the tokenizers agree")
