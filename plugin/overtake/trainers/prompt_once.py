"""Log-probabilities of completions with the prompt of a group computed once: rows that share it are packed behind one copy of it.

The rows of a batch become one sequence: of each group the prompt, then the completions, each one's positions going on from the prompt's.
Nothing is padded, and of a completion the last token is left out, which no other is read from. Whatever works on a token by itself (the
projections, the MLP, the norms) sees each prompt once; in the attention a completion sees its prompt and itself: the prompt's keys and
values are laid beside its own, layer by layer, so that nothing of that size outlives a layer. It is a layer's own affair, so gradient
checkpointing, LoRA, DDP and DeepSpeed need not know of it. One mask over the whole sequence would say the same, at the cost of its
length squared.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from peft import PeftModel, PeftType
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

COVERED = ("llama", "qwen2", "qwen3")
"""Values of `model_type` whose layers pass what they are not told of on to their attention, and look at tokens nowhere else."""

_LENGTH_DEPENDENT = ("dynamic", "longrope")
_CHUNK = 2**24
"""Logits that are looked at together in float32."""


class Group(NamedTuple):
    """Places of a prompt and its completions in the packed sequence."""

    start: int
    prompt: int
    """Tokens of the prompt, which begins at `start`."""
    slots: Tensor
    """[completions, longest]: the packed position of each token; where a completion is shorter, `start`."""
    filled: Tensor
    """[tokens]: which of the flattened slots hold a token, in packed order."""
    mask: Tensor
    """[1, 1, longest, prompt + longest]: what a completion's token sees of prompt and completion."""


@dataclass
class Packed:
    """A batch packed by group; see `pack`."""

    input_ids: Tensor
    """[1, tokens]"""
    position_ids: Tensor
    groups: list[Group]
    read: Tensor
    """[reads]: the packed positions whose logits are needed."""
    rows: Tensor
    """[scored]: of each scored token, which of the reads foretells it; the first tokens of a group share one."""
    tokens: Tensor
    """[scored]: its id."""
    places: Tensor
    """[scored]: its place in the flattened mask."""
    attended: int = field(default=0)
    """Calls of `attend` so far: none after a forward pass means that the model has an attention of its own."""


def uncovered(model: nn.Module) -> str:
    """Return why this (unwrapped) model's prompts cannot be computed once, in words; "" when they can."""
    if isinstance(model, PeftModel):
        kinds = {str(getattr(config.peft_type, "value", config.peft_type)) for config in model.peft_config.values()}
        if kinds != {PeftType.LORA.value}:
            return f"its adapters are {', '.join(sorted(kinds))}, not LORA"
        model = model.get_base_model()
    if not isinstance(model, PreTrainedModel):
        return f"it is a {type(model).__name__}, which is neither a transformers model nor LoRA on one"
    config = model.config
    if config.model_type not in COVERED or not type(model).__name__.endswith("ForCausalLM"):
        return f"it is a {type(model).__name__} ({config.model_type}), not a causal language model of {', '.join(COVERED)}"
    if config._attn_implementation != "sdpa":
        return f"its attention is {config._attn_implementation}, not sdpa"
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        return "it has layers with a sliding window"
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type")
    if rope in _LENGTH_DEPENDENT:
        return f"its positions ({rope}) depend on the length of the whole batch"
    if config.attention_dropout or any(isinstance(module, nn.modules.dropout._DropoutNd) and module.p for module in model.modules()):
        return "it has dropout above 0, which would be drawn once for the whole group"
    if getattr(model.get_input_embeddings(), "neftune_noise_alpha", None):
        return "noise is added to its embeddings (NEFTune)"
    return ""


def pack(input_ids: Tensor, attention_mask: Tensor, mask: Tensor) -> Packed | None:
    """Pack the rows of [rows, length] by their prompts; None where no two of them share one, or a row is attended with gaps.

    `mask` is [rows, last]: which of the last tokens of each row are scored. A row's prompt is what stands before its first scored token,
    on whichever side it is padded. A row of which nothing is scored is left out.

    >>> packed = pack(torch.tensor([[7, 8, 1, 2], [0, 7, 8, 3]]), torch.tensor([[1] * 4, [0, 1, 1, 1]]), torch.tensor([[1, 1], [0, 1]]))
    >>> packed.input_ids.tolist(), packed.position_ids.tolist(), packed.read.tolist(), packed.rows.tolist(), packed.tokens.tolist()
    ([[7, 8, 1]], [[0, 1, 2]], [1, 2], [0, 1, 0], [1, 2, 3])
    """
    length, last = input_ids.shape[1], mask.shape[1]
    members: dict[tuple[int, ...], list[tuple[int, list[int], list[int]]]] = {}
    rows = zip(input_ids.tolist(), attention_mask.tolist(), mask.tolist(), strict=True)
    for row, (tokens, attended, scored) in enumerate(rows):
        if not any(scored):
            continue
        first, count = attended.index(1), sum(attended)
        if not all(attended[first : first + count]):
            return None
        columns = [length - last + at for at, counts in enumerate(scored) if counts]
        if not first < columns[0] or columns[-1] >= first + count:
            return None
        members.setdefault(tuple(tokens[first : columns[0]]), []).append((row, tokens[columns[0] : columns[-1] + 1], columns))
    if all(len(group) == 1 for group in members.values()):
        return None

    ids: list[int] = []
    positions: list[int] = []
    groups: list[tuple[int, int, list[list[int]]]] = []
    reads: dict[int, int] = {}
    entries: list[tuple[int, int, int]] = []
    for prompt, group in members.items():
        start, before = len(ids), len(prompt)
        ids += prompt
        positions += range(before)
        slots = []
        for row, completion, columns in group:
            at = len(ids)
            ids += completion[:-1]
            positions += range(before, before + len(completion) - 1)
            slots.append([*range(at, len(ids))])
            for column in columns:
                offset = column - columns[0]
                position = at + offset - 1 if offset else start + before - 1
                entries.append((reads.setdefault(position, len(reads)), completion[offset], row * last + column - (length - last)))
        groups.append((start, before, slots))
    device = input_ids.device
    scored_rows, scored_tokens, places = (torch.tensor(values, device=device) for values in zip(*entries, strict=True))
    return Packed(
        input_ids=torch.tensor([ids], device=device),
        position_ids=torch.tensor([positions], device=device),
        groups=[_group(*group, device) for group in groups],
        read=torch.tensor([*reads], device=device),
        rows=scored_rows,
        tokens=scored_tokens,
        places=places,
    )


def _group(start: int, prompt: int, slots: list[list[int]], device: torch.device) -> Group:
    """The tensors by which the attention takes a group apart."""
    longest = max(map(len, slots))
    padded = torch.tensor([slot + [start] * (longest - len(slot)) for slot in slots], dtype=torch.long).view(len(slots), longest)
    filled = torch.tensor([row * longest + at for row, slot in enumerate(slots) for at in range(len(slot))], dtype=torch.long)
    visible = torch.ones(longest, prompt + longest, dtype=torch.bool).tril(prompt)
    return Group(start, prompt, padded.to(device), filled.to(device), visible[None, None].to(device))


def by_length(prompts: Sequence[str], lengths: Sequence[int], window: int) -> list[int]:
    """The indices of rows, the longest first: within each `window` of them the prompts with their completions, and of each prompt the
    completions by the number of tokens written.

    >>> by_length(["ask", "ask", "a long question", "a long question"], [2, 9, 4, 5], window=4)
    [3, 2, 1, 0]
    """
    order: list[int] = []
    for start in range(0, len(prompts), window):
        here = range(start, min(start + window, len(prompts)))
        longest: dict[str, int] = {}
        for at in here:
            longest[prompts[at]] = max(longest.get(prompts[at], 0), lengths[at])
        order += sorted(here, key=lambda at: (-len(prompts[at]) - longest[prompts[at]], prompts[at], -lengths[at]))
    return order


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, prompt_once: Packed | None = None, **options: Any
) -> tuple[Tensor, Any]:
    """The attention that transformers names sdpa; of a packed batch (query, key and value [1, heads, tokens, width]) group by group."""
    if prompt_once is None:
        outcome: tuple[Tensor, Any] = sdpa_attention_forward(module, query, key, value, mask, **options)
        return outcome
    prompt_once.attended += 1
    pieces = []
    for start, size, slots, filled, visible in prompt_once.groups:
        whole, keys, values = (states[:, :, start : start + size] for states in (query, key, value))
        pieces.append(sdpa_attention_forward(module, whole, keys, values, None, **options)[0][0])
        if not len(filled):  # completions of one token, which the prompt's last foretells
            continue
        queries, own_keys, own_values = (states[0][:, slots].transpose(0, 1) for states in (query, key, value))
        keys = torch.cat([keys.expand(len(slots), -1, -1, -1), own_keys], dim=2)
        values = torch.cat([values.expand(len(slots), -1, -1, -1), own_values], dim=2)
        pieces.append(sdpa_attention_forward(module, queries, keys, values, visible, **options)[0].flatten(0, 1)[filled])
    return torch.cat(pieces).unsqueeze(0), None


def accept() -> None:
    """Make transformers' sdpa take packed batches; without one it stays as it is. Doing it again changes nothing."""
    ALL_ATTENTION_FUNCTIONS.register("sdpa", attend)


def log_probabilities(
    model: nn.Module, packed: Packed, temperature: float, otherwise: Tensor, *, entropy: bool = False
) -> tuple[Tensor, Tensor | None] | None:
    """Return ([rows, last], [rows, last]): log-probability of each scored token, and on request the entropy where it was drawn, in float32.

    `otherwise`, of the mask's shape, is what stands where nothing is scored; the entropy is 0 there. None when the model turns out to have
    an attention of its own: then nothing was computed. The model may be wrapped (DDP, DeepSpeed) and is called once.
    """
    accept()
    # A mask of four dimensions keeps transformers from making one of its own; the attention takes none.
    unread = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=packed.input_ids.device)
    logits = model(
        input_ids=packed.input_ids,
        attention_mask=unread,
        position_ids=packed.position_ids,
        use_cache=False,
        logits_to_keep=packed.read,
        prompt_once=packed,
    ).logits[0]
    if not packed.attended:
        return None
    log_probs, spread = _Scores.apply(logits, packed.rows, packed.tokens, temperature, entropy)
    filled = otherwise.float().flatten().index_put((packed.places,), log_probs).view_as(otherwise)
    if not entropy:
        return filled, None
    return filled, torch.zeros_like(filled).flatten().index_put((packed.places,), spread[packed.rows]).view_as(otherwise)


class _Scores(torch.autograd.Function):
    """Log-probabilities of chosen tokens and entropies, [reads, vocabulary] a chunk at a time: nothing of that size is kept but logits."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, rows: Tensor, tokens: Tensor, temperature: float, entropy: bool) -> tuple[Tensor, Tensor]:
        totals, spreads = [], []
        for part in _chunks(logits):
            scaled = part.float() / temperature
            total = torch.logsumexp(scaled, dim=-1)
            totals.append(total)
            if entropy:
                spreads.append(total - ((scaled - total[:, None]).exp_() * scaled).sum(-1))
        total, spread = torch.cat(totals), torch.cat(spreads) if entropy else torch.empty(0)
        ctx.save_for_backward(logits, rows, tokens, total, spread)
        ctx.temperature = temperature
        return logits[rows, tokens].float() / temperature - total[rows], spread

    @staticmethod
    def backward(ctx: Any, of_chosen: Tensor, of_spread: Tensor) -> tuple[Tensor, None, None, None, None]:
        logits, rows, tokens, total, spread = ctx.saved_tensors
        mass = torch.zeros_like(total).index_add_(0, rows, of_chosen)
        whole, at = torch.empty_like(logits), 0
        for part, out in zip(_chunks(logits), _chunks(whole), strict=True):
            here = slice(at, at := at + len(part))
            likely = part.float().div_(ctx.temperature).sub_(total[here, None])
            # Of log p(token): 1 at the token less p; of the entropy: -p (log p + entropy).
            share = likely.exp().div_(-ctx.temperature)
            if len(spread):
                share.mul_(likely.add_(spread[here, None]).mul_(of_spread[here, None]).add_(mass[here, None]))
            else:
                share.mul_(mass[here, None])
            out.copy_(share)
        whole.index_put_((rows, tokens), (of_chosen / ctx.temperature).to(whole.dtype), accumulate=True)
        return whole, None, None, None, None


def _chunks(logits: Tensor) -> Sequence[Tensor]:
    return logits.split(max(1, _CHUNK // logits.shape[-1]))
