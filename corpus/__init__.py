"""From files to passages: sources of documents, and how they are cut."""

from .beir import BeirFolder, open_beir, read_qrels_tsv, read_queries
from .chunking import Chunker
from .problems import OnError, Reject
from .reading import Position
from .recognise import open_source
from .sentences import sentences
from .source import Source
from .tally import Counts, RejectsFile, Tally

__all__ = [
    "BeirFolder",
    "Chunker",
    "Counts",
    "OnError",
    "Position",
    "Reject",
    "RejectsFile",
    "Source",
    "Tally",
    "open_beir",
    "open_source",
    "read_qrels_tsv",
    "read_queries",
    "sentences",
]
