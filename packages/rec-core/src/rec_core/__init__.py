"""Typed contracts, artifacts, evaluation, training and the language-model layer that every rec package shares."""

__version__ = "0.1.0"
