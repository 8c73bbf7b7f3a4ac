"""Lucene beside a collection: an index that is derived from its passages, by the name "lucene"."""

from ..indexes.collection import Collection
from ..models.passage_text import passage_text
from ..retrieval.lucene import LuceneRetriever
from ..retrieval.lucene_build import lucene_beside

LUCENE = "lucene"


def has_lucene(collection: Collection) -> bool:
    """Whether an index was built for this generation or an earlier one."""
    return (collection.folder / LUCENE).is_dir()


def open_lucene(collection: Collection) -> LuceneRetriever:
    """Search this generation by Lucene; the index is built if it is not there.

    Raises MissingExtra without the extra "lucene".
    """
    return lucene_beside(collection, passage_text)
