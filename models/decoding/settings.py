"""How beam search is set, and what comes of it."""

from dataclasses import dataclass, field

from ...errors import UsageError
from .lookup import Spelling


@dataclass(frozen=True, slots=True)
class BeamSettings:
    """How to search.

    beam: prefixes of a query that are written on at each step.  max_length: tokens written at most,
    those of `begin` and the completing one included.  min_length: tokens before the completing one.
    spelling: how the constraint is asked, and which token completes.  begin: tokens that every
    prefix begins with; score_begin: they count in its log-probability.  decoder_start: what the
    decoder after an encoder is begun with, None: what the model says.  stop_at_count: a prefix that
    occurs at most so often is kept and not written on.  groups, diversity: beams in groups, and
    what a token costs that a beam of an earlier group went on with.  length_penalty: results are
    sorted by log-probability / length ** length_penalty.  batch: queries at once.  tested,
    enumerated: how candidates are found, which changes the speed alone.
    """

    beam: int = 15
    max_length: int = 10
    min_length: int = 0
    spelling: Spelling = field(default_factory=Spelling)
    begin: tuple[int, ...] = ()
    score_begin: bool = True
    decoder_start: tuple[int, ...] | None = None
    stop_at_count: int = 0
    groups: int = 1
    diversity: float = 0.0
    length_penalty: float = 0.0
    batch: int = 16
    tested: int = 256
    enumerated: int = 4096

    @property
    def wanted(self) -> int:
        """Candidates of a row that must be exact: what is chosen of it, what groups can make
        dearer, and the completing token, which may come too early. Both of the first two together
        are at most 2 * beam.
        """
        return 2 * self.beam + 1

    def check(self) -> None:
        """Raise UsageError for settings with which nothing could be written."""
        least = {"beam": 1, "max_length": 1, "groups": 1, "batch": 1, "tested": 1}
        least |= {"min_length": 0, "stop_at_count": 0, "enumerated": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise UsageError(f"{name}={getattr(self, name)}", remedy=f"Use {low} or more")
        if self.beam % self.groups:
            raise UsageError(
                f"{self.groups} groups of {self.beam} beams",
                remedy="Use a number of beams that can be divided by the groups",
            )
        if self.spelling.eos in self.begin:
            raise UsageError(
                f"begin={self.begin} has the completing token {self.spelling.eos}",
                remedy="Leave it out: what is complete is not written on",
            )
        if len(self.begin) >= self.max_length:
            raise UsageError(
                f"max_length={self.max_length} with {len(self.begin)} tokens to begin with",
                remedy="Use a larger max_length",
            )


@dataclass(frozen=True, slots=True)
class ScoredPrefix:
    """What a model wrote for a query.

    tokens: without the completing one.  logprob: natural logarithm, not normalised by length; of a
    complete one it contains the completing token.  count: how often the constraint has it, with its
    end if complete.
    """

    tokens: tuple[int, ...]
    logprob: float
    count: int
    complete: bool
