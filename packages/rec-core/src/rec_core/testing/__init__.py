"""For tests of your own methods: contracts that every method keeps, small seeded data sets, hypothesis strategies.

Nothing of rec-core's other rooms imports this one. ``rec_core.testing.strategies`` needs hypothesis and is imported by
its own name: ``from rec_core.testing.strategies import histories``.
"""

from rec_core.testing.contracts import check_recommender
from rec_core.testing.datasets import checkerboard, planted_clusters, with_other_test_items

__all__ = ["check_recommender", "checkerboard", "planted_clusters", "with_other_test_items"]
