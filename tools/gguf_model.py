"""Turn a GGUF file into a folder to train: weights in bf16, config, tokenizer, chat template.

    python tools/gguf_model.py model-q8_0.gguf models/model
    MODEL=models/model bash recipes/sft_qwen32b.sh

A file that cannot be turned is refused before anything is written: one of several parts, a base model without a chat template, an
architecture or a quantisation that is not known, too little memory or disk.
"""

import sys
from functools import partial

from overtake import cli, gguf_model

main = partial(cli.main, gguf_model, __doc__)

if __name__ == "__main__":
    sys.exit(main())
