"""Vectors as int8 codes with error bounds, so that a cheap product rules out almost every vector.

A vector v of a part with the centre m is written as

    v = m + s c + e        s: its scale, c: (d,) whole numbers in -127..127, e: what is left over

and three numbers are kept with its codes: the scale s, the reach |s c| and the error |e|, both
rounded up. A query q is written as q = t b + f in the same manner, where b is either int8 codes or
float32. With x, the computed product of c and b, Cauchy and Schwarz give

    q.v = q.m + s c.(t b) + s c.f + e.q
    |q.v - (q.m + s t x)| <= reach_v * reach_q + error_v * |q|                              (1)

where reach_q = |f| when b is int8 (x is exact), and covers the rounding of x when b is float32.
`QueryTerms` holds what (1) needs of the queries. Whoever searches drops a vector only if the upper
bound of its score by (1) is below k lower bounds, so no vector of the top k is ever lost: the codes
decide how fast a search is, never what it finds.

The margins against rounding: the float32 test of vector_topk.scan computes s t x and the bound in
at most five operations, each off by a factor of 1 +- 2^-24 of a term no larger than
reach_v (|q| + |f|), so 1e-6 |q| is added to reach_q and 1e-6 |q| to |q|. The score itself is a
float64 sum of d products, off by at most d 2^-53 |v| |q|; `slack` covers its share of the centre.
Norms up to LARGEST keep all of it far from overflow; what is below TINY is not coded but left to
the error term, so that nothing depends on numbers too small for float32.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import float32, int8, njit, types, void
from numpy.typing import NDArray

LARGEST = 1e18
"""The longest vector that is stored or searched with: scores stay below the float32 maximum."""

TINY = 1e-30
"""A scale below this is taken as zero."""

_UP = 1 + 2.0**-22
"""A factor that makes a float64 no smaller after it is rounded to float32."""


class QueryTerms(NamedTuple):
    """What equation (1) needs of a batch of queries, for one part.

    bases: (queries,) float64 q.m.  steps: float32 t.  reaches: float32 reach_q.
    norms: float32 |q|, rounded up.  slacks: float64, added to every bound.
    """

    bases: NDArray[np.float64]
    steps: NDArray[np.float32]
    reaches: NDArray[np.float32]
    norms: NDArray[np.float32]
    slacks: NDArray[np.float64]


def read_only(kind: Any, dimensions: int) -> Any:
    """The type of C-ordered arrays that a kernel only reads, memory maps among them."""
    return types.Array(kind, dimensions, "C", readonly=True)


@njit(
    void(read_only(float32, 2), float32[::1], int8[:, ::1], float32[:, ::1]),
    cache=True,
    nogil=True,
    fastmath=True,
)
def encode(vectors: Any, centre: Any, codes: Any, ranges: Any) -> None:
    """Code (n, d) float32 vectors into `codes` (n, d) int8 and `ranges` (n, 3) float32.

    The columns of `ranges` are scale, reach and error. fastmath: all values are finite, and a sum
    in another order differs by less than the rounding up.
    """
    for i in range(vectors.shape[0]):
        largest = 0.0
        for j in range(vectors.shape[1]):
            largest = max(largest, abs(np.float64(vectors[i, j]) - np.float64(centre[j])))
        scale: Any = np.float64(np.float32(largest / 127.0))
        if scale < TINY:
            scale = 0.0
        reach, error = 0.0, 0.0
        for j in range(vectors.shape[1]):
            rest = np.float64(vectors[i, j]) - np.float64(centre[j])
            code = 0.0
            if scale > 0.0:
                code = min(max(np.rint(rest / scale), -127.0), 127.0)
            codes[i, j] = np.int8(code)
            reach += (scale * code) ** 2
            error += (rest - scale * code) ** 2
        ranges[i, 0] = scale
        ranges[i, 1] = np.sqrt(reach) * _UP
        ranges[i, 2] = np.sqrt(error) * _UP


def int8_queries(
    queries: NDArray[np.float32],
) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float64]]:
    """Codes b (queries, d), steps t and |f| of queries that are multiplied as int8."""
    steps = (np.abs(queries).max(axis=1, initial=0.0).astype(np.float64) / 127.0).astype(np.float32)
    steps[steps < TINY] = 0.0
    divisors = np.where(steps > 0, steps, np.inf).astype(np.float64)[:, None]
    codes = np.clip(np.rint(queries / divisors), -127, 127)
    left = queries - codes * steps.astype(np.float64)[:, None]
    return codes.astype(np.int8), steps, norms_of(left)


def float32_queries(
    queries: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    """The same for float32: b = q / max|q|, and the rounding of d products takes the part of |f|.

    A float32 sum of d products, in whatever order, is off by at most d u / (1 - d u) |c| |b| with
    u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1); rounding b
    itself adds u.
    """
    steps: NDArray[np.float32] = np.abs(queries).max(axis=1, initial=0.0)
    steps[steps < TINY] = 0.0
    divisors = np.where(steps > 0, steps, np.inf)[:, None]
    roundings = (queries.shape[1] + 2) * 2.0**-24
    share = np.where(steps > 0, roundings / (1 - roundings), 1.0)
    scaled: NDArray[np.float32] = (queries / divisors).astype(np.float32)
    return scaled, steps, share * norms_of(queries)


def norms_of(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """The lengths (n,) of (n, d) vectors."""
    squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    norms: NDArray[np.float64] = np.sqrt(squares)
    return norms


def query_terms(
    queries: NDArray[np.float32],
    centre: NDArray[np.float32],
    steps: NDArray[np.float32],
    rests: NDArray[np.float64],
) -> QueryTerms:
    """The terms of (1), with the margins against rounding that the module's text derives."""
    wide, middle = queries.astype(np.float64), centre.astype(np.float64)
    norms = norms_of(wide)
    return QueryTerms(
        wide @ middle,
        steps,
        ((rests * (1 + 1e-6) + norms * 1e-6) * _UP).astype(np.float32),
        (norms * (1 + 1e-6) * _UP).astype(np.float32),
        norms * (np.sqrt(middle @ middle) * 1e-11) + 1e-40,
    )
