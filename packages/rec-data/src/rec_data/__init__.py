"""Raw public datasets and your own tables in, a prepared dataset out."""

__version__ = "0.1.0"
