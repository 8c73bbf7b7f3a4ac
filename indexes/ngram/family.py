"""The settings of an n-gram index, and how its parts are written."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ...errors import UsageError
from ...records import JSON
from ..family import OpenPart
from .compressed import Compressed, write_compressed
from .index import NgramIndex
from .part import Layout, NgramPart, Tokens, coded, live_texts, open_tokens
from .scoring import Scoring
from .suffixes import Suffixes, write_suffixes
from .texts import TokenText, check_texts

if TYPE_CHECKING:
    from ...storage import PartWriter

MOST_IDS = 1 << 22


@dataclass(frozen=True, slots=True)
class Ngram:
    """The settings of an n-gram index.

    vocabulary: token ids of the model; the 16 behind them are separators and marks, see `Marks`.
    layout: "suffixes", 6 bytes a token, 8 with more than 65,536 different ones; or "fm", 2.7, where
    n-grams are counted in several times the time, and located and read in a thousand times.
    sampling: of "fm", every how many tokens a position is kept.
    tokenizer: what says which tokenizer made the tokens, a digest for example.
    alpha, beta, unigram_alpha, single, overlaps, most_hits, depth: see `Scoring`.
    """

    vocabulary: int
    layout: Literal["suffixes", "fm"] = "suffixes"
    sampling: int = 32
    tokenizer: str = ""
    alpha: float = 2.0
    beta: float = 0.8
    unigram_alpha: float = 1.0
    single: float = 0.0
    overlaps: bool = False
    most_hits: int | None = None
    depth: int | None = None
    kind: ClassVar[str] = "ngram"

    def __post_init__(self) -> None:
        if type(self.vocabulary) is not int or not 1 <= self.vocabulary <= MOST_IDS:
            raise UsageError(
                f"vocabulary={self.vocabulary!r} is out of range", remedy=f"Use 1 to {MOST_IDS}"
            )
        if self.layout not in ("suffixes", "fm"):
            raise UsageError(f"layout={self.layout!r} is unknown", remedy="Known: suffixes fm")
        if type(self.sampling) is not int or not 1 <= self.sampling <= 1024:
            raise UsageError(f"sampling={self.sampling!r} is out of range", remedy="Use 1 to 1024")
        if type(self.tokenizer) is not str:
            raise UsageError(f"tokenizer={self.tokenizer!r} is no text", remedy="Use a text")
        _ = self.scoring

    @property
    def settings(self) -> Mapping[str, JSON]:
        return asdict(self)

    @property
    def scoring(self) -> Scoring:
        """How passages are scored unless a search says otherwise."""
        how = self.alpha, self.beta, self.unigram_alpha, self.single, self.overlaps
        return Scoring(*how, self.most_hits, self.depth)

    def check(self, keys: TokenText) -> None:
        """Raise BadKey for the first text with a token that cannot be stored."""
        check_texts(keys, self.vocabulary)

    def builder(self) -> "NgramBuilder":
        return NgramBuilder(self)

    def open(self, parts: Sequence[OpenPart]) -> "NgramIndex":
        return NgramIndex(self, parts)

    def open_part(self, opened: OpenPart) -> NgramPart:
        """Raises Damaged unless the arrays fit each other and the settings."""
        tokens = open_tokens(opened, self.vocabulary)
        return NgramPart(opened, tokens, self._layout(opened, tokens))

    def _layout(self, opened: OpenPart, tokens: Tokens) -> Layout:
        if self.layout == "fm":
            return Compressed(opened, tokens, self.sampling)
        return Suffixes(opened, tokens)

    def write(self, writer: "PartWriter", batches: Sequence[TokenText]) -> None:
        """Write texts as a part: up to 16 bytes a token in memory."""
        text = coded(batches, self.vocabulary)
        if self.layout == "fm":
            write_compressed(writer, text, self.sampling)
        else:
            write_suffixes(writer, text)

    def merge(self, parts: Sequence[OpenPart], writer: "PartWriter") -> None:
        """The live passages are put together and sorted anew: up to 16 bytes a token in memory."""
        opened = [self.open_part(part) for part in parts]
        self.write(writer, [text for part in opened for text in live_texts(part)])


class NgramBuilder:
    """The tokens of one segment, in memory."""

    def __init__(self, family: Ngram) -> None:
        self._family = family
        self._texts: list[TokenText] = []

    @property
    def nbytes(self) -> int:
        """Memory held, and four times as much for sorting it."""
        return sum(5 * text.tokens.nbytes + text.offsets.nbytes for text in self._texts)

    def add(self, keys: TokenText) -> None:
        """Append texts; all of them, or none with a BadKey."""
        check_texts(keys, self._family.vocabulary)
        some = keys.tokens[keys.offsets[0] : keys.offsets[-1]].copy()
        self._texts.append(TokenText(keys.offsets - keys.offsets[0], some))

    def write(self, writer: "PartWriter") -> None:
        self._family.write(writer, self._texts)
