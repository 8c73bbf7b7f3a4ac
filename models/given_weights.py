"""An encoder that has its keys from a file: weighted terms that another program made.

Passages are found in the file by their ids. Queries are written as that program's terms, as
Anserini takes them for such collections, or found in a file of their own by their texts.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from ..corpus.term_weights import WeightedPassage, read_weights, weighted
from ..errors import InputError, UsageError
from ..records import JSON, Fingerprint, Passage, WeightedTerms
from .fingerprint import file_digest, fingerprint_of


class GivenWeights:
    """Keys for ``Inverted(scoring="impact")`` from JSON lines as `corpus.term_weights` reads them.

    file: of the passages. Fastest when it has them in the order in which they are asked for.
    queries: of the queries, their texts under "contents"; without it a query is terms with white
        space between them, each of which weighs as often as it is written.
    made_by: what made the weights, for people; an index refuses weights of another maker.
    """

    def __init__(self, file: str | Path, *, queries: str | None = None, made_by: str = "") -> None:
        self._file, self.made_by = Path(file).resolve(), made_by
        self._queries = None if queries is None else Path(queries).resolve()
        if self._queries is not None:
            _check_there(self._queries, "queries")
        self._reader: Iterator[WeightedPassage] = iter(())

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The encoder that a fingerprint's settings describe; the passages' file may be gone."""
        return cls(settings["file"], queries=settings["queries"], made_by=settings["made_by"])

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Over the maker's name and the queries; passages may come from several files."""
        settings: dict[str, JSON] = {
            "class": "given-weights",
            "made_by": self.made_by,
            "queries digest": file_digest(self._queries),
        }
        queries = None if self._queries is None else str(self._queries)
        found = fingerprint_of(self.made_by or self._file.name, settings)
        return replace(found, settings={**settings, "file": str(self._file), "queries": queries})

    def keys_of(self, passages: Sequence[Passage]) -> WeightedTerms:
        """The weights of the passages with these ids.

        Raises InputError for one that the file does not have.
        """
        found = self._find({passage.id for passage in passages})
        return weighted([found[passage.id] for passage in passages])

    def encode_passages(self, texts: Sequence[str]) -> WeightedTerms:
        """Refused: the file knows passages by their ids."""
        raise UsageError(
            "weights of a file belong to passages, not to texts", remedy="Call keys_of(passages)"
        )

    def encode_queries(self, texts: Sequence[str]) -> WeightedTerms:
        """The weights of each text. InputError for one that the file of queries does not have."""
        if self._queries is None:
            return weighted([Counter(text.split()) for text in texts])
        for text in texts:
            if text not in self._known:
                raise InputError(
                    f"there are no weights for the query {text!r}",
                    where=str(self._queries),
                    remedy="Add its line, or leave out 'queries' and write its terms",
                )
        return weighted([self._known[text] for text in texts])

    @cached_property
    def _known(self) -> Mapping[str, Mapping[str, float]]:
        assert self._queries is not None
        return {one.passage.text: one.weights for one in read_weights(self._queries)}

    def _find(self, ids: set[str]) -> Mapping[str, Mapping[str, float]]:
        """Read on from where the last call stopped, and once more from the beginning."""
        _check_there(self._file, "file")
        found: dict[str, Mapping[str, float]] = {}
        for again in (False, True):
            if again and len(found) < len(ids):
                self._reader = read_weights(self._file)
            while len(found) < len(ids) and (one := next(self._reader, None)) is not None:
                if one.passage.id in ids:
                    found[one.passage.id] = one.weights
        if len(found) < len(ids):
            missing = min(ids - found.keys())
            raise InputError(
                f"there are no weights for the passage '{missing}'",
                where=str(self._file),
                remedy="Index the passages that the file was made from, without cutting them",
            )
        return found


def _check_there(file: Path, option: str) -> None:
    if not file.is_file():
        remedy = f"Set the option '{option}' to a file of weights"
        raise InputError("no such file", where=str(file), remedy=remedy)
