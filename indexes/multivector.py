"""The multi-vector index: passages as one vector a token, found by MaxSim (late interaction).

The score of a passage is the sum over the query's vectors of the greatest inner product with one of
the passage's vectors as they are stored, whatever way it was found. A text without a vector has no
score: such passages are never found, and such queries find nothing.

Khattab and Zaharia, ColBERT: Efficient and Effective Passage Search via Contextualized Late
Interaction over BERT, SIGIR 2020, https://arxiv.org/abs/2004.12832
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..records import JSON, Bitmap, Neighbours, TokenVectors
from .family import BadKey, OpenPart, check_search, part_in_memory
from .fixed_encoding import FixedEncoding
from .maxsim import blocks
from .multivector_fixed import kept_fixed, open_fixed, write_fixed
from .multivector_part import Halves, Residuals, Tokens, live_numbers
from .multivector_pooling import pooled
from .multivector_search import TokenPart, score_numbers, search_part
from .multivector_write import merge_tokens, write_tokens
from .vector_search import best_of

if TYPE_CHECKING:
    from ..storage import PartWriter

CODES = {"residual1": 1, "residual2": 2, "residual4": 4, "float16": 0}
"""How vectors are stored: bits a dimension of residual codes, 0 = as they are."""

SEARCHES = ("auto", "exact", "centroids", "fixed")

_WORTH = 4
"""Passages for each candidate from which candidates cost less than scoring all does."""

_LONGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True, slots=True)
class MultiVector:
    """The settings of a multi-vector index.

    dimensions: of every vector.  normalize: whether vectors are made to have the length one.
    codes: "residual1", "residual2" or "residual4", a centroid and so many bits a dimension; or
    "float16".
    pool: of how many vectors of a passage one is kept, the mean of those that are most alike; 1 =
    all. See multivector_pooling.
    search: "exact"; "centroids" or "fixed", by candidates that are scored exactly, which come from
    the centroids of tokens or from fixed dimensional encodings; or "auto", by centroids where a
    part has more than four times `depth` passages to search in, else exact.
    depth: candidates that are scored exactly; a search for k uses 2 k at least.
    repetitions, cells, width, final: of the encodings, see fixed_encoding; cells: 2^cells of them.

    residual2 takes 39 bytes a vector at 128 dimensions and 80 vectors a passage. Of 30,000
    generated passages it found 97% of the ten best by float32, by 50 candidates from centroids and
    by scoring all alike. Encodings found no more, took 190 bytes a vector beside the codes and
    longer. Pooling takes 0.4 ms for a passage of 80 vectors and 4 ms for one of 240.
    """

    dimensions: int
    codes: Literal["residual1", "residual2", "residual4", "float16"] = "residual2"
    normalize: bool = True
    pool: int = 1
    search: Literal["auto", "exact", "centroids", "fixed"] = "auto"
    depth: int = 500
    repetitions: int = 20
    cells: int = 4
    width: int = 16
    final: int = 0
    kind: ClassVar[str] = "multivector"

    def __post_init__(self) -> None:
        self._check_choice("codes", tuple(CODES))
        self._check_choice("search", SEARCHES)
        if type(self.normalize) is not bool:
            raise UsageError(f"normalize={self.normalize!r} is no truth value", remedy="Use true")
        for name, least, most in (
            ("dimensions", 1, 65_536), ("pool", 1, 1024), ("depth", 1, 2**31 - 1),
            ("repetitions", 1, 1024), ("cells", 1, 8), ("width", 1, 1024), ("final", 0, 65_536),
        ):  # fmt: skip
            self._check_number(name, least, most)
        if (self.repetitions << self.cells) * self.width > 1 << 20:
            raise UsageError("the encodings are too long", remedy="Use fewer repetitions or cells")

    def _check_choice(self, name: str, known: tuple[str, ...]) -> None:
        if getattr(self, name) not in known:
            raise UsageError(
                f"{name}={getattr(self, name)!r} is unknown", remedy=f"Known: {' '.join(known)}"
            )

    def _check_number(self, name: str, least: int, most: int) -> None:
        value = getattr(self, name)
        if type(value) is not int or not least <= value <= most:
            raise UsageError(f"{name}={value} is out of range", remedy=f"Use {least} to {most}")

    @property
    def settings(self) -> Mapping[str, JSON]:
        return asdict(self)

    @property
    def encoding(self) -> FixedEncoding | None:
        """How passages are encoded for candidates; None when they are not."""
        if self.search != "fixed":
            return None
        sizes = self.repetitions, self.cells, self.width, self.final
        return FixedEncoding(self.dimensions, *sizes)

    @property
    def has_centroids(self) -> bool:
        """Whether float16 vectors have centroids too."""
        return self.search in ("auto", "centroids")

    def check(self, keys: TokenVectors) -> None:
        """Raise BadKey for the first text with a vector that cannot be stored."""
        check_tokens(keys, self)

    def builder(self) -> "MultiVectorBuilder":
        return MultiVectorBuilder(self)

    def open(self, parts: Sequence[OpenPart]) -> "MultiVectorIndex":
        return MultiVectorIndex(self, parts)

    def open_part(self, opened: OpenPart) -> TokenPart:
        """Raises Damaged unless the arrays fit each other and the settings."""
        tokens: Tokens
        if CODES[self.codes]:
            tokens = Residuals(opened, self.dimensions, CODES[self.codes], self.normalize)
        else:
            tokens = Halves(opened, self.dimensions, self.has_centroids)
        encoding = self.encoding
        fixed = None if encoding is None else open_fixed(opened, encoding.length)
        return TokenPart(opened, tokens, fixed)

    def merge(self, parts: Sequence[OpenPart], writer: "PartWriter") -> None:
        opened = [(self.open_part(part), live_numbers(part)) for part in parts]
        merge_tokens(writer, [(part.tokens, rows) for part, rows in opened])
        if self.encoding is not None:
            sources = [(part.fixed, rows) for part, rows in opened if part.fixed is not None]
            write_fixed(writer, kept_fixed(sources), self.encoding.length)


def check_tokens(keys: TokenVectors, family: MultiVector) -> None:
    """Raise BadKey with the first text of `keys` that can be no text of an index.

    A vector is not finite, zero though it is to be normalised, or too long for float16.
    """
    vectors, offsets = keys.vectors, keys.offsets
    if vectors.ndim != 2 or vectors.shape[1] != family.dimensions or vectors.dtype != np.float32:
        raise BadKey(
            f"token vectors are {vectors.dtype} {vectors.shape}, not float32 "
            f"(n, {family.dimensions})",
            0,
            remedy="Encode with the model that the index was made for, as float32",
        )
    steps = np.diff(offsets)
    if offsets[0] < 0 or offsets[-1] > len(vectors) or (steps < 0).any():
        raise BadKey(
            "offsets do not lie in the vectors", int((steps < 0).argmax()), remedy="Let them rise"
        )
    some = vectors[offsets[0] : offsets[-1]]
    _refuse(~np.isfinite(some).all(axis=1), keys, "a vector has NaN or infinity", "Encode it again")
    if family.normalize:
        zero = _lengths(some) == 0
        _refuse(zero, keys, "a vector is zero and has no direction", "Use normalize=False")
    else:
        great = np.abs(some).max(axis=1, initial=0) > _LONGEST
        _refuse(great, keys, "a vector does not fit into float16", "Scale the vectors down")


def _refuse(
    wrong: NDArray[np.bool_] | np.bool_, keys: TokenVectors, what: str, remedy: str
) -> None:
    if wrong.any():
        place = int(wrong.argmax()) + keys.offsets[0]
        row = int(np.searchsorted(keys.offsets, place, "right")) - 1
        raise BadKey(what, row, remedy=remedy)


def _lengths(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.sqrt(
        np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    )
    return lengths


def scaled(keys: TokenVectors, family: MultiVector) -> TokenVectors:
    """The vectors as they are multiplied, and offsets from 0."""
    vectors = keys.vectors[keys.offsets[0] : keys.offsets[-1]]
    if family.normalize:
        vectors = (vectors / _lengths(vectors)[:, None]).astype(np.float32)
    offsets = (keys.offsets - keys.offsets[0]).astype(np.int64)
    return TokenVectors(offsets, np.ascontiguousarray(vectors))


def _fewer(keys: TokenVectors, family: MultiVector) -> TokenVectors:
    """The vectors of passages pooled; means without a direction give way to the passage's first."""
    found = pooled(keys, family.pool)
    if family.normalize:
        zero = np.flatnonzero(_lengths(found.vectors) < 1e-6)
        rows = np.searchsorted(found.offsets, zero, "right") - 1
        found.vectors[zero] = keys.vectors[keys.offsets[rows]]
    return scaled(found, family)


class MultiVectorBuilder:
    """The token vectors of one segment, in memory as float16."""

    def __init__(self, family: MultiVector) -> None:
        self._family = family
        self._vectors = [np.empty((0, family.dimensions), np.float16)]
        self._counts = [np.empty(0, np.int64)]

    @property
    def nbytes(self) -> int:
        """Memory held."""
        held: list[NDArray[Any]] = [*self._vectors, *self._counts]
        return sum(array.nbytes for array in held)

    def add(self, keys: TokenVectors) -> None:
        """Append texts; all of them, or none with a BadKey."""
        check_tokens(keys, self._family)
        stored = scaled(keys, self._family)
        if self._family.pool > 1:
            stored = _fewer(stored, self._family)
        self._vectors.append(stored.vectors.astype(np.float16))
        self._counts.append(np.diff(stored.offsets))

    def write(self, writer: "PartWriter") -> None:
        """Write the tokens, and the encodings of passages where they are wanted."""
        family, encoding = self._family, self._family.encoding
        offsets = np.cumsum(np.concatenate([np.zeros(1, np.int64), *self._counts]))
        vectors = self._joined()
        write_tokens(writer, offsets, vectors, CODES[family.codes], family.has_centroids)
        if encoding is not None:
            write_fixed(writer, _encodings(encoding, offsets, vectors), encoding.length)

    def _joined(self) -> NDArray[np.float16]:
        """All vectors in one array; what is copied is let go of at once, not held twice."""
        total = sum(len(array) for array in self._vectors)
        joined, place = np.empty((total, self._family.dimensions), np.float16), 0
        waiting, self._vectors = self._vectors[::-1], [joined]
        while waiting:
            array = waiting.pop()
            joined[place : place + len(array)] = array
            place += len(array)
        return joined


def _encodings(
    encoding: FixedEncoding, offsets: NDArray[np.int64], vectors: NDArray[np.float16]
) -> Iterator[NDArray[np.float32]]:
    for first, last in blocks(offsets, 8192):
        some = offsets[first : last + 1]
        tokens = vectors[some[0] : some[-1]].astype(np.float32)
        yield encoding.encode_passages(TokenVectors(some - some[0], tokens))


class MultiVectorIndex:
    """A multi-vector index over the parts of its segments."""

    def __init__(self, family: MultiVector, parts: Sequence[OpenPart]) -> None:
        self._family = family
        self._parts = [family.open_part(part) for part in parts]

    @property
    def rows(self) -> int:
        """Rows of all parts, the deleted ones included."""
        return sum(part.opened.rows for part in self._parts)

    @property
    def nbytes(self) -> int:
        """Bytes of all parts on disk."""
        return sum(part.opened.part.nbytes for part in self._parts)

    def add(self, numbers: NDArray[np.int64], keys: TokenVectors) -> None:
        """Append texts in memory. numbers: the next ones, ``arange(rows, rows + n)``."""
        added = part_in_memory(self._family.builder(), numbers, keys, self.rows)
        self._parts.append(self._family.open_part(added))

    def search(self, keys: TokenVectors, k: int, *, allowed: Bitmap | None = None) -> Neighbours:
        """The k live passages with the greatest scores for each query.

        allowed: (rows,) bool. Raises UsageError for k < 1 or a bitmap of another size, BadKey for
        a query that could not be stored either.
        """
        check_search(k, allowed, self.rows)
        check_tokens(keys, self._family)
        queries, wanted = scaled(keys, self._family), min(k, max(self.rows, 1))
        found = [
            search_part(part, queries, wanted, *self._depths(part, wanted), allowed, self._encoding)
            for part in self._parts
        ]
        nothing = Neighbours(
            np.full((len(keys), 1), -1), np.full((len(keys), 1), -np.inf, np.float32)
        )
        return best_of([nothing, *found], k)

    def score(self, keys: TokenVectors, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """The scores of given passages: numbers (queries, depth), -1 for none -> float32.

        They are those of `search`, and -inf for -1, for deleted passages and where there is no
        score. Raises UsageError for numbers of another shape or out of range.
        """
        check_tokens(keys, self._family)
        if numbers.shape[:1] != (len(keys),) or numbers.ndim != 2:
            raise UsageError(
                f"numbers are {numbers.shape} for {len(keys)} queries",
                remedy="Give a row of passage numbers a query",
            )
        if numbers.size and not -1 <= numbers.min() <= numbers.max() < self.rows:
            raise UsageError(
                f"a passage number is not -1 to {self.rows - 1}", remedy="Use those of a search"
            )
        return score_numbers(self._parts, scaled(keys, self._family), numbers)

    @cached_property
    def _encoding(self) -> FixedEncoding | None:
        return self._family.encoding

    def _depths(self, part: TokenPart, k: int) -> tuple[int, int]:
        """How many candidates a part gives, and up to how many rows all are scored instead.

        Candidates are shared out by the parts' sizes, twice as many as `depth` in all.
        """
        share = min(2 * part.opened.rows / max(self.rows, 1), 1)
        depth = max(2 * k, round(self._family.depth * share))
        most = {"exact": self.rows, "auto": _WORTH * depth}
        return depth, most.get(self._family.search, depth)
