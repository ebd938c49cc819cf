"""Run by recipes/lib.sh, by its path: python3.11 plugin/overtake/launch/__main__.py KIND [NAME COUNT WORD...]..."""

import os
import sys
from pathlib import Path

# The folder of the package, in place of this file's own, so that nothing here is taken for a module of the standard library.
sys.path[0] = str(Path(__file__).absolute().parents[2])
if sys.version_info < (3, 11):  # noqa: UP036  told in words: an older one fails on the syntax of what is imported next
    sys.exit(f"error: the recipes need Python 3.11, and python3 is {sys.version.split()[0]}. Run: bash install.sh")

from overtake.launch.entry import main  # noqa: E402  after the check

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
