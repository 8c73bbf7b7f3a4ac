"""What weighted terms have to be before kernels walk them, which do not look again."""

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, UsageError
from ..records import Bitmap, WeightedTerms
from .family import BadKey, check_search

MOST_QUERY_TERMS = 65_535


def check_shape(keys: WeightedTerms) -> None:
    """Raise UsageError unless the arrays fit together."""
    offsets, ids = keys.offsets, keys.ids
    fits = len(offsets) > 0 and offsets[0] == 0 and offsets[-1] == len(ids) == len(keys.weights)
    if not fits or np.any(offsets[1:] < offsets[:-1]) or len(keys.lengths) != len(keys):
        raise UsageError("the arrays of the weighted terms do not fit together")
    if len(ids) and not 0 <= ids.min() <= ids.max() < len(keys.vocabulary):
        raise UsageError(f"a term id is not one of the vocabulary's {len(keys.vocabulary)}")


def check_queries(keys: WeightedTerms, k: int, allowed: Bitmap | None, rows: int) -> None:
    """Raise UsageError or InputError unless this can be searched for among so many rows."""
    check_search(k, allowed, rows)
    check_shape(keys)
    if not np.all((keys.weights >= 0) & (keys.weights < np.inf)):
        raise InputError("a query weight is negative or not finite", remedy="Use weights >= 0")
    longest = int(np.diff(keys.offsets).max(initial=0))
    if longest > MOST_QUERY_TERMS:
        raise InputError(
            f"a query has {longest:,} terms; {MOST_QUERY_TERMS:,} are the most",
            remedy="Keep its heaviest terms",
        )


def refuse(keys: WeightedTerms, bad: NDArray[np.bool_], why: str, remedy: str) -> None:
    """Raise BadKey for the first of the entries that are bad."""
    if bad.any():
        entry = int(bad.argmax())
        row = int(np.searchsorted(keys.offsets, entry, side="right")) - 1
        term = keys.vocabulary[keys.ids[entry]].decode("utf-8", "replace")
        raise BadKey(f"the weight {keys.weights[entry]} of {term!r} {why}", row, remedy=remedy)
