"""ReLLa: retrieval of relevant behaviours for click-through prompts; not written yet."""

__version__ = "0.1.0"
