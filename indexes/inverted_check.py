"""What a part of postings has to be before kernels walk it, which do not look again.

Everything that is an index or a size is compared with what it points into: one pass over the
vocabulary's offsets, the rows of the sparse postings, those of the last range of the common ones,
and the dense ones.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Damaged, UsageError
from ..storage import Part
from .postings import MOST_ROWS, RANGE, SYMBOL_BITS
from .stored import rising, stored

PLACE = "part of postings"
_WIDE = ("codes_high", "dense_high")
MOST_SYMBOL = 65_535
Arrays = Mapping[str, NDArray[Any]]


def postings_arrays(part: Part, types: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    """The arrays of a part, by name; types: the number type of each, of `lengths` the widest."""
    wide = any(name in part for name in _WIDE)
    names = [name for name in types if wide or name not in _WIDE]
    arrays = {}
    for name in names:
        dtype = np.dtype(types[name])
        if name == "lengths" and name in part:
            narrow = np.dtype(part.array(name).dtype)
            dtype = narrow if narrow.kind == "u" and narrow.itemsize < dtype.itemsize else dtype
        arrays[name] = stored(part, name, dtype.name, PLACE, 2 if name == "bases" else 1)
    return arrays


def fact(facts: Mapping[str, Any], name: str) -> int:
    """A count among the facts."""
    value = facts.get(name)
    if type(value) is not int or value < 0:
        raise Damaged(f"the fact {name!r} is {value!r}", where=PLACE, remedy="Rebuild the index")
    return value


def check_postings(arrays: Arrays, text: NDArray[np.uint8], rows: int, facts: Any) -> None:
    """Raise Damaged unless all numbers stay inside the arrays that they point into."""
    if rows > MOST_ROWS:
        raise UsageError(f"{rows:,} rows in one segment; {MOST_ROWS:,} are the most")
    check_vocabulary(arrays, text, facts["terms"])
    _check_sparse(arrays, rows, facts["terms"])
    _check_kinds(arrays, facts["terms"])
    _check_common(arrays, rows)
    _check_dense(arrays, rows)
    _check_symbols(arrays, facts["highest"])
    require(len(arrays["norms"]) == len(arrays["lengths"]) == rows, "norms")


def check_vocabulary(a: Arrays, text: NDArray[np.uint8], terms: int) -> None:
    """Raise Damaged unless the ends of the terms and their buckets stay inside the text."""
    ends, buckets = a["ends"], a["buckets"]
    require(len(ends) == terms and (ascends(ends, len(text)) or not terms), "ends")
    require(ascends(buckets, terms) and (len(buckets) - 1).bit_count() == 1, "buckets")


def _check_sparse(a: Arrays, rows: int, terms: int) -> None:
    sparse = a["sparse"]
    require(len(a["starts"]) == terms + 1 and ascends(a["starts"], len(sparse)), "starts")
    require(not len(a["starts"]) or a["starts"][0] == 0, "starts")
    require(not len(sparse) or int(sparse.max()) >> SYMBOL_BITS < rows, "sparse")


def _check_kinds(a: Arrays, terms: int) -> None:
    """Every term has its postings in one place only."""
    common, dense, starts = a["common"], a["dense_terms"], a["starts"]
    require(rising(common, terms), "common")
    require(rising(dense, terms), "dense_terms")
    both = np.sort(np.concatenate((common, dense)))
    require(rising(both, terms) and bool((starts[both + 1] == starts[both]).all()), "kinds")


def _check_common(a: Arrays, rows: int) -> None:
    docs, bases, common, ranges = a["docs"], a["bases"], len(a["common"]), -(-rows // RANGE)
    require(len(a["directory"]) == common * 2 * ranges, "directory")
    sizes = a["directory"].reshape(common, 2 * ranges)
    wanted = np.zeros((common + 1, 2), np.int64)
    np.cumsum(sizes.sum(axis=1, dtype=np.int64), out=wanted[1:, 0])
    np.cumsum(sizes[:, 1::2].sum(axis=1, dtype=np.int64), out=wanted[1:, 1])
    require(np.array_equal(bases, wanted), "bases")
    require([len(docs), len(a["codes"])] == wanted[-1].tolist(), "docs")
    if len(docs):
        last = sizes[:, -2:].sum(axis=1, dtype=np.int64)
        ends = wanted[1:, 0][last > 0]
        stretches = np.stack((ends - last[last > 0], ends), axis=1).ravel()
        stretches = stretches[: -1 if len(ends) and ends[-1] == len(docs) else None]
        highest = np.maximum.reduceat(docs, stretches)[::2] if len(ends) else np.zeros(1, np.uint16)
        require(int(highest.max()) < rows - (ranges - 1) * RANGE, "docs")


def _check_dense(a: Arrays, rows: int) -> None:
    terms, low = len(a["dense_terms"]), a["dense"]
    require(len(low) == terms * rows and len(a["dense_counts"]) == terms, "dense")
    high = a.get("dense_high", low)
    require(len(high) == len(low), "dense_high")
    for term, stated in enumerate(a["dense_counts"].tolist()):
        here = slice(term * rows, (term + 1) * rows)
        require(np.count_nonzero(low[here] | high[here]) == stated, "dense_counts")


def _check_symbols(a: Arrays, highest: int) -> None:
    """No symbol is in another block of 256 than the highest one, or above it."""
    require(highest <= (MOST_SYMBOL if "codes_high" in a else 255), "highest symbol")
    for name in _WIDE:
        if name in a:
            require(int(a[name].max(initial=0)) <= highest >> 8, name)
    require("codes_high" not in a or len(a["codes_high"]) == len(a["codes"]), "codes_high")


def ascends(array: NDArray[Any], limit: int) -> bool:
    """Whether the values never fall and the last is the limit."""
    return bool(len(array) and array[-1] == limit and np.all(array[1:] >= array[:-1]))


def require(fits: bool, name: str) -> None:
    """Raise Damaged, naming the arrays, unless they fit."""
    if not fits:
        raise Damaged(f"the {name} do not fit together", where=PLACE, remedy="Rebuild the index")
