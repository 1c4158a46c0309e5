"""``python -m sparchitect``: the command line."""

from sparchitect.cli import main

main()
