"""Keeping the k best: scores and passage numbers as one integer, so that ties break by number.

A key has the bits of a positive float32 above the complement of the number: a larger key is a
better passage. Keys collect in a buffer of several k; when it is full, the best k stay.
"""

import numpy as np
from numba import njit

LOWER = 0xFFFFFFFF


@njit(cache=True, nogil=True)
def key_of(bits, number):  # type: ignore[no-untyped-def]
    return (np.int64(bits) << 32) | (LOWER - number)


@njit(cache=True, nogil=True)
def select(keys, n, k):  # type: ignore[no-untyped-def]
    """Move the k largest of the first n keys to the front; gives the smallest of them (Hoare)."""
    low, high = 0, n - 1
    while low < high:
        pivot = keys[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while keys[i] > pivot:
                i += 1
            while keys[j] < pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                i, j = i + 1, j - 1
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            break
    return keys[k - 1]


@njit(cache=True, nogil=True)
def sort_keys(keys, n, spare):  # type: ignore[no-untyped-def]
    """Sort the first n keys, largest first; `spare` has room for n."""
    if n <= 32:
        for i in range(1, n):
            key, j = keys[i], i
            while j > 0 and keys[j - 1] < key:
                keys[j] = keys[j - 1]
                j -= 1
            keys[j] = key
        return
    varies = np.int64(0)
    for i in range(n):
        varies |= keys[i] ^ keys[0]
    places = np.empty(256, np.int64)
    source, target = keys, spare
    for shift in range(0, 64, 8):
        if (varies >> shift) & 255 == 0:
            continue
        for value in range(256):
            places[value] = 0
        for i in range(n):
            places[(source[i] >> shift) & 255] += 1
        place = n
        for value in range(256):
            place -= places[value]
            places[value] = place
        for i in range(n):
            value = (source[i] >> shift) & 255
            target[places[value]] = source[i]
            places[value] += 1
        source, target = target, source
    for i in range(n):
        keys[i] = source[i]
