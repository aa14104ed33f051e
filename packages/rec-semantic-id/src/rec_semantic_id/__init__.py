"""LC-Rec: semantic item ids, alignment tuning and trie-constrained generation; not written yet."""

__version__ = "0.1.0"
