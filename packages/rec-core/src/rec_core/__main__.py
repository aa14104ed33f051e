"""``python -m rec_core``."""

from rec_core.cli import main

main()
