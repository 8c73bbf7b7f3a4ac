"""From queries to rankings: search through an index, fusion of several, folding to documents."""

from .folding import Folded, Folding
from .fusion import METHODS, Fused, fuse
from .index_retriever import IndexRetriever

__all__ = ["METHODS", "Folded", "Folding", "Fused", "IndexRetriever", "fuse"]
