"""ragstone: from documents to ranked passages, cited answers and the numbers that judge them."""

__version__ = "0.1.0"
