"""How impacts are stored: exactly enough to score by, and in a byte to find candidates by.

float16  a weight keeps 11 bits: it is off by at most 1 part in 2,048
uint8    a weight is 2 to the power of (code - 128) / 16, code 1 to 255: it is off by at most 2.2 %,
         or set to the least, 0.0041, where it is smaller; above 250 none can be kept

The grid of uint8 is the same everywhere, so that a passage scores the same wherever it is.
In postings a float16 weight is rounded up to the code of a grid of its own: 2 to the power of
(code - 255) / 24 of the heaviest weight of the part.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Weights = Literal["float16", "uint8"]
STEPS, ONE = 16, 128  # codes for a factor of two, and the code of the weight 1
FINE_STEPS = 24
UINT8_ERROR = 2 ** (1 / (2 * STEPS)) - 1
"""The most that uint8 is off by, as a share of the weight."""

MOST = {"float16": 65_504.0, "uint8": float(2 ** ((255 + 0.5 - ONE) / STEPS) * (1 - 1e-6))}
"""The heaviest weight that can be kept."""

_ALL = np.arange(1 << 16, dtype=np.uint16).view(np.float16)


def symbols_of(weights: NDArray[np.float32], kind: Weights) -> NDArray[np.uint16]:
    """What is stored of weights above 0 and up to MOST: bits of a float16, or codes."""
    if kind == "float16":
        halves: NDArray[np.uint16] = np.maximum(weights.astype(np.float16).view(np.uint16), 1)
        return halves
    codes = np.rint(STEPS * np.log2(weights)) + ONE
    return np.asarray(np.clip(codes, 1, 255), np.uint16)


def values(kind: Weights, top: float) -> NDArray[np.float32]:
    """What the codes in postings stand for at most: (256,) ascending. top: the heaviest weight."""
    codes = np.arange(256, dtype=np.float64)
    if kind == "uint8":
        return (2 ** ((codes - ONE) / STEPS)).astype(np.float32)
    return (top * (1 + 1e-6) * 2 ** ((codes - 255) / FINE_STEPS)).astype(np.float32)


def least_share(kind: Weights) -> float:
    """How much of what its code says a posting is worth at least, unless the code is 1."""
    return 1.0 if kind == "uint8" else float(2 ** (-1 / FINE_STEPS)) * (1 - 1e-5)


def codes_of(kind: Weights, top: float) -> NDArray[np.uint8]:
    """The code in postings of every symbol: (65,536,) for float16, (256,) for uint8."""
    if kind == "uint8":
        return np.arange(256, dtype=np.uint8)
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.ceil(255 + FINE_STEPS * np.log2(_ALL.astype(np.float64) / top) - 1e-9)
    kept = np.clip(np.nan_to_num(steps, nan=255, neginf=1, posinf=255), 1, 255)
    return np.asarray(kept, np.uint8)
