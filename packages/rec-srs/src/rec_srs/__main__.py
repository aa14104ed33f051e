"""``python -m rec_srs``."""

from rec_srs.cli import main

main()
