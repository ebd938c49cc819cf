"""Launcher that recipes share: profile, rows, start of RL and the caller's flags become one command of ms-swift, printed and run.

Standard library alone, so that DRY_RUN=1 works before anything is installed. A recipe is a shell file that shows its numbers;
recipes/lib.sh hands them, as the words they are, to __main__.py here.
"""
