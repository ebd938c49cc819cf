"""One completion a question where the student is its own teacher and there is no reward: ms-swift takes it of other teachers alone."""

import sys
from typing import Any


def accept_one_completion() -> None:
    """Make ms-swift's arguments take `--num_generations 1` of such a run; doing it again changes nothing."""
    module = sys.modules.get("swift.arguments.rlhf_args")
    # Where it is not loaded nothing is trained, and it takes seconds to load.
    if module is None or hasattr(module.RLHFArguments, "takes_one_completion"):
        return
    launched = module.RLHFArguments
    launched.takes_one_completion = True
    check = launched._check_teacher

    def check_teacher(args: Any) -> None:
        from overtake import settings  # light where the plugin is loaded, in every process

        own = args.teacher_model is None and args.teacher_model_server is None
        if own and args.rlhf_type == "grpo" and args.num_generations == 1 and not args.reward_funcs and settings.load().self_teacher:
            args._teacher_use_disable_adapter = False
            return
        check(args)

    launched._check_teacher = check_teacher
