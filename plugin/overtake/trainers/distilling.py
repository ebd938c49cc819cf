"""On-policy distillation in GRPO: what a served teacher is shown of a batch, and how far the student is from its teacher over all ranks."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from accelerate.utils import gather
from swift.rl_core.advantage import compute_teacher_kl_per_token
from swift.rl_core.data import GRPOBatch
from torch import Tensor


class Row(NamedTuple):
    """A row of a padded batch without its padding."""

    ids: list[int]
    """Prompt and completion, to the last token that is scored."""
    scored: list[int]
    """Places of the scored tokens in `ids`."""
    columns: list[int]
    """Their columns in the completion mask."""


def rows(input_ids: Tensor, attention_mask: Tensor, mask: Tensor) -> list[Row]:
    """The rows of a batch: input_ids and attention_mask are [rows, length], the completion mask [rows, last], of the last columns.

    >>> [row] = rows(torch.tensor([[0, 7, 8, 9, 2]]), torch.tensor([[0, 1, 1, 1, 1]]), torch.tensor([[1, 1, 0]]))
    >>> row
    Row(ids=[7, 8, 9], scored=[1, 2], columns=[0, 1])
    """
    before = input_ids.shape[1] - mask.shape[1]
    found = []
    for tokens, attended, counts in zip(input_ids.tolist(), attention_mask.tolist(), mask.tolist(), strict=True):
        columns = [column for column, scored in enumerate(counts) if scored]
        first = attended.index(1)
        end = before + columns[-1] + 1 if columns else first
        found.append(Row(tokens[first:end], [before + column - first for column in columns], columns))
    return found


def laid_out(scores: Sequence[Sequence[float]], of: Sequence[Row], mask: Tensor) -> Tensor:
    """Log-probabilities of the scored tokens, at their places in the completion mask; 0 elsewhere.

    >>> laid_out([[-0.5, -1.0]], [Row([7, 8, 9], [1, 2], [0, 1])], torch.tensor([[1, 1, 0]])).tolist()
    [[-0.5, -1.0, 0.0]]
    """
    out = torch.zeros_like(mask, dtype=torch.float32)
    for at, (values, row) in enumerate(zip(scores, of, strict=True)):
        out[at, row.columns] = torch.tensor(values, dtype=torch.float32, device=out.device)
    return out


def mean_teacher_kl(batches: Sequence[GRPOBatch]) -> float:
    """The KL from the teacher of a token, in nats (k3, as ms-swift measures it), over the batches of all ranks.

    ms-swift logs that of a rank's own batches, so that ranks would not agree on which checkpoint is best.
    """
    sums: list[Any] = []
    for batch in batches:
        if batch.teacher_per_token_logps is not None:
            k3 = compute_teacher_kl_per_token(batch.teacher_per_token_logps, batch.old_per_token_logps, batch.completion_mask)
            sums.append(torch.stack([k3.sum().float(), batch.completion_mask.sum().float()]))
    device = batches[0].completion_mask.device
    total = gather(torch.stack(sums).sum(0)[None] if sums else torch.zeros(1, 2, device=device)).sum(0)
    return float(total[0] / total[1].clamp(min=1.0))
