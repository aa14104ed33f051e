"""Write a tiny data set and two runs as this release writes them: tests/archives/v<schema version>/.

    hatch run python tools/make_archives.py [DIRECTORY]

Every release must go on reading what older ones wrote, so an archive that exists is refused, never replaced. Run this
once for each new schema version; ``tests/test_archives.py`` finds the directory.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rec_core.artifacts import SCHEMA_VERSION, to_json, write_atomically
from rec_core.dataset import read_dataset, write_dataset
from rec_core.evaluation import seen_items
from rec_core.runs import load_recommender
from rec_core.testing import planted_clusters
from rec_srs import EASESettings
from rec_srs.config import PopularSettings
from rec_srs.train import train_run

RUNS = {"popular": PopularSettings(), "ease": EASESettings(l2=1.0)}
K = 5


def make_archives(into: Path) -> None:
    """Write ``dataset``, one run per entry of ``RUNS``, and ``expected.json`` with what they hold and answer."""
    made = write_dataset(into / "dataset", planted_clusters(16, 12, n_clusters=2, events=(4, 5)))
    asked = read_dataset(made).split.held_out("test")
    expected = {"counts": made.manifest["counts"], "hashes": {"dataset": made.hash}, "recommendations": {}}
    for name, settings in RUNS.items():
        run = train_run(into / "dataset", into / name, model=name, settings=settings)
        lists = load_recommender(run).recommend(asked.histories, K, exclude=seen_items(asked))
        expected["hashes"][name] = run.hash
        expected["recommendations"][name] = {
            "items": lists.items.tolist(),
            "scores": [[float(f"{score:.6g}") for score in row] for row in lists.scores],
        }
    write_atomically(into / "expected.json", to_json(expected).encode())


if __name__ == "__main__":
    archives = Path(__file__).parents[1] / "tests" / "archives" / f"v{SCHEMA_VERSION}"
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else archives
    if target.exists():
        sys.exit(f"{target} exists; an archive is what a release wrote once and is not replaced")
    make_archives(target)
