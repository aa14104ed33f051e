"""LLMEmb: contrastively tuned LLM embeddings, adapted to any sequence model; not written yet."""

__version__ = "0.1.0"
