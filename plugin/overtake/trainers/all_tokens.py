"""Rollouts by transformers from the whole distribution: `--top_k -1`, which ms-swift 4.6.0 hands on as None and transformers 5 reads as 50.

What is drawn from the first 50 tokens alone is not what is trained: the policy gradient lacks the others, and a teacher's term, which is
negative on the whole, then drives probability where nothing is ever drawn.
"""

import sys
from functools import wraps
from typing import Any


def draw_from_all() -> None:
    """Make ms-swift's transformers engine, where it is loaded, hand on a top k that is none as 0; doing it again changes nothing."""
    module = sys.modules.get("swift.infer_engine.transformers_engine")
    if module is None or hasattr(module.prepare_generation_config, "__wrapped__"):
        return
    prepare = module.prepare_generation_config

    @wraps(prepare)
    def prepared(of_model: Any, request: Any, tokenizer: Any) -> Any:
        config = prepare(of_model, request, tokenizer)
        if request.top_k is not None and request.top_k <= 0 and config.do_sample:
            config.top_k = 0
        return config

    module.prepare_generation_config = prepared  # type: ignore[attr-defined]
