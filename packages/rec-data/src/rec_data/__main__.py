"""``python -m rec_data``."""

from rec_data.cli import main

main()
