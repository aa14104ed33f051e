"""``python -m rec_core``."""

from rec_core.commands import main

main()
