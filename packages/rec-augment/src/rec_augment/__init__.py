"""LLM4IDRec: a language model that writes extra interactions, filtered and merged; not written yet."""

__version__ = "0.1.0"
