"""`swift deploy` that asks for the key in API_KEY: python -m overtake.keyed deploy --model ...

ms-swift takes a key as an argument, where every user of the machine sees it, and prints its arguments.
"""

import os
import sys


def main(argv: list[str]) -> None:
    """Serve as `swift deploy` does with the flags behind its first word, until it is ended."""
    from swift.pipelines.infer.deploy import SwiftDeploy

    key = os.environ.pop("API_KEY", "")
    if argv[:1] != ["deploy"] or not key:
        sys.exit("error: usage: API_KEY=... python -m overtake.keyed deploy --model ...: the key is taken from the environment")

    class Keyed(SwiftDeploy):
        """With the key, once the arguments have been printed and before the routes are guarded."""

        def _install_auth_middleware(self) -> None:
            self.args.api_key = key
            super()._install_auth_middleware()

    Keyed(argv[1:]).main()


if __name__ == "__main__":
    main(sys.argv[1:])
