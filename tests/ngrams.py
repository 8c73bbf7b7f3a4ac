"""N-grams without an index: texts that are queries too, and the score as it is said."""

import sysconfig
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ragstone.indexes.ngram.family import Ngram
from ragstone.indexes.ngram.index import NgramIndex
from ragstone.indexes.ngram.texts import Marks, TokenText, WeightedNgrams, flat

VOCABULARY = 9
MARKS = Marks.of(VOCABULARY)
LAYOUTS = ("suffixes", "fm")


@dataclass(frozen=True, eq=False)
class Both(WeightedNgrams):
    """Texts, and one query each: what an index takes as passages and as queries alike."""

    offsets: Any = None
    tokens: Any = None


def rows_of(texts: Any) -> list[list[int]]:
    """The sequences of a batch."""
    pairs = zip(texts.offsets[:-1], texts.offsets[1:], strict=True)
    return [texts.tokens[first:last].tolist() for first, last in pairs]


def few_tokens(rng: np.random.Generator, n: int) -> Both:
    """Texts of two fields or one, and queries of n-grams of random texts."""
    texts = [random_text(rng) for _ in range(n)]
    ngrams = [random_ngrams(rng) for _ in range(n)]
    singles = [rng.permutation(VOCABULARY)[:3].tolist() for _ in range(n)]
    flat_ngrams = flat([ngram for some in ngrams for ngram in some])
    queries = np.append(0, np.cumsum([len(some) for some in ngrams])).astype(np.int64)
    weights = rng.integers(0, 9, len(flat_ngrams)).astype(np.float32) / 4
    unigram_weights = rng.random(3 * n, dtype=np.float32)
    whole = flat(texts)
    asked = queries, flat_ngrams, weights, flat(singles), unigram_weights
    return Both(*asked, whole.offsets, whole.tokens)


def random_text(rng: np.random.Generator) -> list[int]:
    """A title that is marked, or not there, and a body; the first tokens are frequent."""
    body = (rng.random(rng.integers(0, 25)) ** 2 * VOCABULARY).astype(int).tolist()
    if rng.random() < 0.5:
        return body
    title = rng.integers(0, VOCABULARY, rng.integers(1, 4)).tolist()
    return [MARKS.title, *title, MARKS.separator, *body]


def random_ngrams(rng: np.random.Generator) -> list[list[int]]:
    """Up to ten n-grams of a random text between separators; some occur nowhere."""
    text = [MARKS.separator, *random_text(rng), MARKS.separator]
    starts = rng.integers(0, len(text), rng.integers(0, 10))
    return [text[start : start + rng.integers(1, 6)] for start in starts]


def together_as_tokens(batches: Sequence[Both]) -> Both:
    def flatly(parts: Sequence[TokenText]) -> TokenText:
        return flat([row for part in parts for row in rows_of(part)])

    whole = flatly([TokenText(one.offsets, one.tokens) for one in batches])
    counts = np.concatenate([np.diff(one.queries) for one in batches])
    return Both(
        np.append(0, np.cumsum(counts)),
        flatly([one.ngrams for one in batches]),
        np.concatenate([one.weights for one in batches]),
        flatly([one.unigrams for one in batches]),
        np.concatenate([one.unigram_weights for one in batches]),
        whole.offsets,
        whole.tokens,
    )


def with_unknown_token(keys: Both) -> Both:
    """The same, with a token in row 1 that no vocabulary has."""
    texts = rows_of(TokenText(keys.offsets, keys.tokens))
    texts[1] = [*texts[1], VOCABULARY + 16]
    whole = flat(texts)
    return replace(keys, offsets=whole.offsets, tokens=whole.tokens)


def places(text: Sequence[int], ngram: Sequence[int]) -> list[int]:
    """Where an n-gram stands in a text with the separators around it.

    It ends at a separator that is not its first token; the last separator begins nothing.
    """
    end = MARKS.separator
    if end in ngram[1:-1]:
        return []
    last = len(text) - max(len(ngram), 2)
    return [i for i in range(last + 1) if list(text[i : i + len(ngram)]) == list(ngram)]


def ngram_scores(keys: Any, asked: Any, **settings: Any) -> np.ndarray:
    """(queries, passages): the score of each, -inf without an n-gram of some weight."""
    texts = [text_with_edges(row) for row in rows_of(keys)]
    ngrams, singles = rows_of(asked.ngrams), rows_of(asked.unigrams)
    scores = np.full((len(asked), len(texts)), -np.inf)
    for query in range(len(asked)):
        first, last = asked.queries[query : query + 2]
        weighted = list(zip(ngrams[first:last], asked.weights[first:last].tolist(), strict=True))
        here = slice(*asked.unigrams.offsets[query : query + 2])
        given = dict(zip(singles[query], asked.unigram_weights[here].tolist(), strict=True))
        for row, text in enumerate(texts):
            scores[query, row] = intersective(text, weighted, given, **settings)
    return scores


def intersective(
    text: Sequence[int],
    weighted: Sequence[tuple[Sequence[int], float]],
    singles: dict[int, float],
    alpha: float = 2.0,
    beta: float = 0.8,
    single: float = 0.0,
    unigram_alpha: float = 1.0,
    overlaps: bool = False,
) -> float:
    """The score of one text, separators included, by the words of scoring's first lines."""
    covered: set[int] = set()
    tokens: set[int] = set()
    total, best, any_counted = 0.0, 0.0, False
    for ngram, weight in sorted(weighted, key=lambda pair: -pair[1]):  # stable: the first first
        found = [set(range(i, i + len(ngram))) for i in places(text, ngram)]
        free = [here for here in found if overlaps or not here & covered]
        if weight <= 0 or not free:
            continue
        different = set(ngram)
        total += weight**alpha * (1 - beta + beta * len(different - tokens) / len(different))
        best, any_counted = max(best, weight**alpha), True
        covered.update(*found)
        tokens |= different
    if not any_counted:
        return -np.inf
    for token in {text[i] for i in range(len(text)) if i not in covered}:
        total += singles.get(token, 0.0) ** unigram_alpha * (1 - beta * (token in tokens))
    return (1 - single) * total + single * best


def index_of(texts: list[list[int]], layout: str, pieces: int = 1, **settings: Any) -> NgramIndex:
    """An index of these texts in so many segments."""
    family = Ngram(**{"vocabulary": VOCABULARY, "layout": layout, **settings})
    index = family.open([])
    for rows in np.array_split(np.arange(len(texts)), pieces):
        index.add(rows, flat([texts[row] for row in rows]))
    return index


def text_with_edges(text: list[int]) -> list[int]:
    return [MARKS.separator, *text, MARKS.separator]


def random_texts(seed: int, n: int) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [random_text(rng) for _ in range(n)]


def python_source(most: int) -> np.ndarray:
    """Names, numbers and signs of the standard library's own source as codes."""
    numbers: dict[str, int] = {}
    codes: list[int] = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        with path.open("rb") as file:
            codes += [
                numbers.setdefault(one.string, len(numbers))
                for one in tokenize.tokenize(file.readline)
            ]
        if len(codes) > most:
            break
    return np.array(codes[:most])


def ask(weighted: dict[tuple[int, ...], float], singles: dict[int, float] | None = None) -> Any:
    weights = np.array(list(weighted.values()), np.float32)
    keys = WeightedNgrams(np.array([0, len(weighted)]), flat(list(weighted)), weights)
    if not singles:
        return keys
    given = flat([list(singles)]), np.array(list(singles.values()), np.float32)
    return WeightedNgrams(keys.queries, keys.ngrams, keys.weights, *given)
