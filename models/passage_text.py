"""What an encoder is given of a passage: what stands above it, and its text, or its document.

An encoder may say both itself: `prepend`, names joined by "+" of what comes first ("title", which
includes the headings above the passage, any field of the metadata, such as a summary, or "none"),
and `late_chunking`, by which passages are read in their document. Others get title and text.

Wang et al., DAPR: A Benchmark on Document-Aware Passage Retrieval, ACL 2024 (titles, summaries).
"""

from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import UsageError
from ..records import Passage
from ..stages import Encoder
from .chunk_documents import documents, follows, text_of
from .late_chunking import ChunkedText

USUAL = "title"
NOTHING = "none"

AnyEncoder = Encoder[Any, Any]


def passage_keys(encoder: AnyEncoder, passages: Sequence[Passage]) -> Any:
    """The keys of passages: each with what the encoder wants before it, or in its document.

    The passages of a document have to stand together, in order: see `slices`. An encoder with
    `keys_of` has keys for passages by their ids, and sees no text.
    """
    reader: Any = encoder
    if hasattr(encoder, "keys_of"):
        return reader.keys_of(passages)
    prepend = getattr(encoder, "prepend", USUAL)
    if is_late(encoder):
        return reader.encode_documents(documents_of(passages, prepend))
    return encoder.encode_passages([passage_text(passage, prepend) for passage in passages])


def is_late(encoder: AnyEncoder) -> bool:
    """Whether it reads passages in their document."""
    return bool(getattr(encoder, "late_chunking", False))


def slices(
    encoder: AnyEncoder, passages: Sequence[Passage], size: int
) -> Iterator[Sequence[Passage]]:
    """The passages, `size` at a time; more where an encoder would lose the end of a document."""
    late, start = is_late(encoder), 0
    while start < len(passages):
        end = min(start + size, len(passages))
        while late and end < len(passages) and follows(passages[end - 1], passages[end]):
            end += 1
        yield passages[start:end]
        start = end


def passage_text(passage: Passage, prepend: str = USUAL) -> str:
    """The passage after what stands above it: its title and its headings, unless said otherwise."""
    above = [part for name in names(prepend) for part in _parts(passage, name)]
    return " ".join((*above, passage.text))


def documents_of(passages: Sequence[Passage], prepend: str = USUAL) -> list[ChunkedText]:
    """The documents of the passages, with the place of each.

    Only the title comes before a document by "title": its text has the headings.
    """
    found = []
    for chunks in documents(passages):
        title = [chunks[0].title] if chunks[0].title else []
        parts = (title if name == USUAL else _parts(chunks[0], name) for name in names(prepend))
        text, spans = text_of(chunks)
        found.append(ChunkedText(text, spans, " ".join(part for all in parts for part in all)))
    return found


def names(prepend: str) -> list[str]:
    """What comes before a passage, name by name."""
    found = prepend.split("+") if type(prepend) is str else []
    if not all(found) or not found:
        raise UsageError(
            f"prepend={prepend!r}",
            remedy="Use 'title', 'none', or names of metadata joined by '+', as in 'title+summary'",
        )
    return [] if found == [NOTHING] else found


def _parts(passage: Passage, name: str) -> list[str]:
    """What one name stands for; a title that is a heading as well is said once."""
    if name == USUAL:
        listed = passage.metadata.get("headings")
        above = [str(heading) for heading in listed] if isinstance(listed, list) else []
        return above if not passage.title or passage.title in above else [passage.title, *above]
    value = passage.metadata.get(name)
    if value is None:
        return []
    return [str(part) for part in value] if isinstance(value, list) else [str(value)]
