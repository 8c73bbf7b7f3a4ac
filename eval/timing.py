"""An encoder with a stopwatch, to tell encoding from searching in the cost of a system."""

import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from ..records import Fingerprint
from ..stages import Encoder

Keys = TypeVar("Keys")
PassageKeys = TypeVar("PassageKeys")
QueryKeys = TypeVar("QueryKeys")


class TimedEncoder(Generic[PassageKeys, QueryKeys]):
    """Encodes as the encoder it holds does, and counts the seconds.

    timed = TimedEncoder(encoder)
    retriever = IndexRetriever(timed, ...)
    evaluate({"dense": retriever}, ..., encode_seconds={"dense": timed.seconds})
    """

    def __init__(self, encoder: Encoder[PassageKeys, QueryKeys]) -> None:
        self._encoder, self._seconds = encoder, 0.0

    def seconds(self) -> float:
        """Wall time spent on encoding so far."""
        return self._seconds

    @property
    def fingerprint(self) -> Fingerprint:
        return self._encoder.fingerprint

    def encode_passages(self, texts: Sequence[str]) -> PassageKeys:
        return self._timed(self._encoder.encode_passages, texts)

    def encode_queries(self, texts: Sequence[str]) -> QueryKeys:
        return self._timed(self._encoder.encode_queries, texts)

    def _timed(self, encode: Callable[[Sequence[str]], Keys], texts: Sequence[str]) -> Keys:
        started = time.perf_counter()
        try:
            return encode(texts)
        finally:
            self._seconds += time.perf_counter() - started
