"""Exact search by torch on a CUDA device: int8 codes multiplied there, candidates scored here.

The codes of a part and their error bounds (see vector_codes) are copied to the device once. Block
by block the device multiplies, keeps the k greatest lower bounds of each query, and gives back the
rows whose upper bounds reach the least of them. Those few are scored from the stored vectors as in
every other search, so what comes back is equal to the bit.

The code is the same for every device of torch, and is tested on its "cpu"; on a real GPU nothing
has been timed yet.
"""

import importlib.util
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingExtra, UsageError
from ..records import Bitmap, Neighbours
from .vector_codes import QueryTerms, int8_queries, query_terms
from .vector_exact import Coded
from .vector_scores import exact_scores
from .vector_topk import begin, open_part, ranked, take

QUERIES = 512
"""Queries in a batch."""

_PRODUCTS = 1 << 26
"""Products in a block: 256 MB in float32, and as much again for each of three bounds."""

_WHOLE = 1024
"""Dimensions up to which a float32 sum of products of int8 is exact: 127 * 127 * 1024 < 2^24.

TensorFloat32 changes nothing in that: its operands have 11 bits, and its sums are float32.
"""

_WORTH_DEVICE = 10**9
"""Multiplications below which a search stays where it is."""


def device_for(wanted: str, work: int) -> str | None:
    """The device for a search of so many multiplications; None is the processor.

    wanted: "auto", "cpu" or "cuda", for which UsageError is raised when there is no such device.
    """
    if wanted == "cpu" or (wanted == "auto" and work < _WORTH_DEVICE):
        return None
    if has_cuda():
        return "cuda"
    if wanted == "auto":
        return None
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra("torch", "dense")
    raise UsageError("device 'cuda' was asked for, and torch finds none", remedy="Use 'auto'")


@cache
def has_cuda() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())


class DevicePart:
    """The codes of a part on a device."""

    def __init__(self, coded: Coded, device: str) -> None:
        import torch

        self._torch, self._coded, self._device = torch, coded, device
        self._codes = torch.tensor(coded.codes, device=device)
        self._ranges = torch.tensor(coded.ranges, device=device)

    def search(self, queries: NDArray[np.float32], k: int, live: Bitmap | None) -> Neighbours:
        """The k live rows with the greatest products with each query (n, d)."""
        alive = None if live is None else self._torch.tensor(live, device=self._device)
        numbers = np.full((len(queries), k), -1, np.int64)
        scores = np.full(numbers.shape, -np.inf, np.float32)
        for first in range(0, len(queries), QUERIES):
            batch = queries[first : first + QUERIES]
            found = self._batch(batch, k, alive)
            numbers[first : first + QUERIES] = found.numbers
            scores[first : first + QUERIES] = found.scores
        return Neighbours(numbers, scores)

    def _batch(self, queries: NDArray[np.float32], k: int, alive: Any) -> Neighbours:
        codes, steps, rests = int8_queries(queries)
        terms = query_terms(queries, self._coded.centre, steps, rests)
        which, rows = self._candidates(codes, terms, k, alive)
        top = begin(len(queries), k)
        open_part(top, terms)
        scores = exact_scores(self._coded.vectors, rows, queries, which)
        take(top, terms, which, rows + self._coded.base, scores)
        return ranked(top)

    def _candidates(
        self, codes: NDArray[np.int8], terms: QueryTerms, k: int, alive: Any
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Queries and rows that can be among the top k by their bounds."""
        torch, queries = self._torch, self._onto(codes)
        steps, reaches, norms = map(self._onto, (terms.steps, terms.reaches, terms.norms))
        # scores are compared without the product of the centre, but are rounded with it
        loose = self._onto((np.abs(terms.bases) * 2.0**-21 + terms.slacks).astype(np.float32))
        best = torch.full((k, len(codes)), -torch.inf, device=self._device)
        found, size = [], max(1, _PRODUCTS // max(1, len(codes)))
        for first in range(0, len(self._codes), size):
            block = slice(first, first + size)
            ranges = self._ranges[block]
            values = self._products(self._codes[block], queries) * ranges[:, :1] * steps
            margins = ranges[:, 1:2] * reaches + ranges[:, 2:] * norms
            if alive is not None:
                values[~alive[block]] = torch.nan
            lowers = torch.nan_to_num(values - margins, nan=-torch.inf)
            best = torch.cat([best, lowers]).topk(k, dim=0).values
            rows, which = torch.nonzero(values + margins >= _below(best[-1], loose), as_tuple=True)
            found.append((rows + first, which, (values + margins)[rows, which]))
        return self._kept(found, _below(best[-1], loose))

    def _kept(self, found: Any, limits: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        which, rows = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for some_rows, some, uppers in found:
            keep = uppers >= limits[some]
            which.append(some[keep].cpu().numpy())
            rows.append(some_rows[keep].cpu().numpy())
        return np.concatenate(which), np.concatenate(rows)

    def _onto(self, array: NDArray[Any]) -> Any:
        return self._torch.from_numpy(array).to(self._device)

    def _products(self, codes: Any, queries: Any) -> Any:
        """Whole numbers (n, queries), rounded to float32."""
        if codes.shape[1] <= _WHOLE:
            return codes.float() @ queries.float().T
        pieces = zip(codes.split(_WHOLE, dim=1), queries.split(_WHOLE, dim=1), strict=True)
        return sum((some.float() @ few.float().T).double() for some, few in pieces).float()


def _below(limits: Any, loose: Any) -> Any:
    """A little less than the limits: float32 scores that are equal must not be told apart."""
    return limits - limits.abs() * 2.0**-20 - loose - 1e-37
