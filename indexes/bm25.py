"""BM25 as Lucene computes it: idf, term frequency saturation, lengths rounded to one byte.

    score = sum over query terms: weight * ln(1 + (N - df + 0.5) / (df + 0.5))
                                  * tf / (tf + k1 * (1 - b + b * length / average length))

N counts the passages that hold any term, df those that hold this term; lengths below 40 are exact,
longer ones keep four bits. The factor k1 + 1 of the paper, which changes no order, is left out.

S. Robertson and H. Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", Foundations
and Trends in Information Retrieval 3(4), 2009.  C. Kamphuis, A. P. de Vries, L. Boytsov, J. Lin,
"Which BM25 Do You Mean?", ECIR 2020.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EXACT = 24  # lengths below it are their own byte


def _decoded(byte: int) -> int:
    """The length that a byte stands for: above EXACT, three bits below a leading one."""
    if byte < EXACT:
        return byte
    shift, bits = divmod(byte - EXACT, 8)
    return EXACT + (bits if shift == 0 else (bits | 8) << (shift - 1))


LENGTHS = np.array([_decoded(byte) for byte in range(256)], np.int64)
"""Length that each norm byte stands for: (256,) ascending."""


def norms(lengths: NDArray[np.integer]) -> NDArray[np.uint8]:
    """The norm byte of each length: the largest that does not stand for more."""
    return (np.searchsorted(LENGTHS, lengths, side="right") - 1).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the live passages of all segments add up to.

    passages: those with at least one term.  tokens: the sum of their lengths.
    """

    passages: int = 0
    tokens: int = 0

    def __add__(self, other: "Statistics") -> "Statistics":
        return Statistics(self.passages + other.passages, self.tokens + other.tokens)


def saturation(highest: int, statistics: Statistics, k1: float, b: float) -> NDArray[np.float32]:
    """What a term frequency at a length is worth: (highest + 1, 256) float32, row 0 is zero."""
    average = np.float32(statistics.tokens / max(statistics.passages, 1)) or 1.0
    length_factor = k1 * (1 - b + b * LENGTHS / float(average))
    frequencies = np.arange(1, highest + 1, dtype=np.float64)[:, None]
    table = np.zeros((highest + 1, 256), np.float32)
    table[1:] = frequencies / (frequencies + length_factor)
    return table
