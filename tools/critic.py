"""Make a critic for PPO: a model with a value head in the place of its language head, and its tokenizer.

    python tools/critic.py Qwen/Qwen3-0.6B output/critic --policy Qwen/Qwen3-4B
    OVERTAKE_CRITIC=output/critic swift rlhf --rlhf_type ppo ...

PPO makes one of the policy's own base when none is named; a smaller model of the same family takes less memory and time. The head is
zero: it begins by expecting nothing.
"""

import sys
from functools import partial

from overtake import cli
from overtake.trainers import critic

main = partial(cli.main, critic, __doc__)

if __name__ == "__main__":
    sys.exit(main())
