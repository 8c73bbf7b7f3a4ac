"""From rankings to answers with citations."""

from .extractive import NO_ANSWER, ExtractiveReader

__all__ = ["NO_ANSWER", "ExtractiveReader"]
