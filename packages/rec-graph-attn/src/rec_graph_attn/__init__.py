"""LLM4REC: language-model attention with a graph-edge bias over user and item nodes; not written yet."""

__version__ = "0.1.0"
