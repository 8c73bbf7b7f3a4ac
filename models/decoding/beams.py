"""Beam search that stays inside a constraint and keeps every prefix that it scored.

What is chosen is chosen among what the constraint allows; what is reported is the model's own
log-probability, over its whole vocabulary. At every step the best 2 * beam candidates of a query
are kept as results, and the best `beam` of them that are not complete are written on, so that
results are of all lengths and many more than beams.

Bevilacqua et al., Autoregressive Search Engines: Generating Substrings as Document Identifiers,
NeurIPS 2022.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError
from .candidates import Candidates, Finder, logprobs_of
from .constraint import Constraint
from .language_model import LanguageModel
from .lookup import Lookup
from .selection import best_of_each, rank_within, times_chosen
from .settings import BeamSettings, ScoredPrefix
from .writing import Writing

EVERY = -1
"""The group of a prefix with which all groups begin."""


class Prefixes(NamedTuple):
    """Prefixes of one length, by ascending query.

    queries, groups, counts, parents: (n,) int64; parents: the rows that they go on from.
    written: (n, tokens) int64.  logprobs: (n,) float64.  complete, live: (n,) bool; live: written
    on at the next step.
    """

    queries: NDArray[np.int64]
    groups: NDArray[np.int64]
    counts: NDArray[np.int64]
    parents: NDArray[np.int64]
    written: NDArray[np.int64]
    logprobs: NDArray[np.float64]
    complete: NDArray[np.bool_]
    live: NDArray[np.bool_]

    def of(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Prefixes":
        columns: tuple[Any, ...] = self
        return Prefixes(*(column[rows] for column in columns))


def beams(
    model: LanguageModel,
    prompts: Sequence[NDArray[np.int64]],
    constraints: Sequence[Constraint],
    settings: BeamSettings,
) -> list[list[ScoredPrefix]]:
    """Every prefix that was scored for each prompt, best first.

    prompts: token ids, with whatever special tokens the model wants.  constraints: one a prompt;
    where all share one, `[constraint] * len(prompts)`.  A prompt's results do not depend on the
    prompts beside it, but for the rounding of the model's own products.
    Raises UsageError for settings and InputError for prompts that cannot be.
    """
    settings.check()
    if len(prompts) != len(constraints):
        raise UsageError(
            f"{len(prompts)} prompts and {len(constraints)} constraints",
            remedy="Give one constraint for each prompt",
        )
    start = model.decoder_start() if settings.decoder_start is None else settings.decoder_start
    begun = (*start, *settings.begin)
    model.check(prompts, begun, settings.max_length - len(settings.begin))
    if settings.spelling.eos is not None:
        model.check_known([settings.spelling.eos], "the completing token")
    found: list[list[ScoredPrefix]] = [[] for _ in prompts]
    for batch in batches([len(prompt) for prompt in prompts], settings.batch):
        own = [constraints[query] for query in batch]
        lookup = Lookup(own, settings.spelling, model.vocabulary)
        writing = Writing(model, [prompts[query] for query in batch], begun)
        for chosen in _steps(writing, lookup, settings):
            for prefix, query in zip(_results(chosen), chosen.queries.tolist(), strict=True):
                found[batch[query]].append(prefix)
    return [_sorted(prefixes, settings.length_penalty) for prefixes in found]


def batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Numbers of texts of similar lengths, `size` at a time, the longest first."""
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable").tolist()
    return (order[at : at + size] for at in range(0, len(order), size))


def _steps(writing: Writing, lookup: Lookup, settings: BeamSettings) -> Iterator[Prefixes]:
    """What was chosen at each step: the results of that length."""
    finder = Finder(lookup, settings.wanted, settings.tested, settings.enumerated)
    live, logits = _begun(writing, lookup, settings), writing.first[:, -1]
    while True:
        found = finder.find(logits, live.queries, live.written, live.counts)
        chosen = _chosen(live, _long_enough(found, live, settings), lookup, settings)
        yield chosen
        live = chosen.of(chosen.live)
        if not len(live.queries) or live.written.shape[1] >= settings.max_length:
            return
        writing.select(live.parents)
        logits = writing.extend(live.written[:, -1:])[:, -1]


def _begun(writing: Writing, lookup: Lookup, settings: BeamSettings) -> Prefixes:
    """One row for each query, in which nothing is written but what all begin with."""
    queries, length = writing.queries, len(settings.begin)
    written = np.tile(np.array(settings.begin, dtype=np.int64), (len(queries), 1))
    logprobs = np.zeros(len(queries))
    if settings.score_begin:
        for place in range(length):
            logits = writing.first[:, place - length - 1]
            logprobs += logprobs_of(logits, queries, written[:, place])
    counts = lookup.counts(queries, written)
    groups = np.full(len(queries), EVERY)
    live = np.ones(len(queries), dtype=np.bool_)
    return Prefixes(queries, groups, counts, queries, written, logprobs, ~live, live)


def _long_enough(found: Candidates, live: Prefixes, settings: BeamSettings) -> Candidates:
    """Without the completing token while less is written than must be."""
    if live.written.shape[1] >= settings.min_length:
        return found
    return found.of(found.tokens != settings.spelling.eos)


def _chosen(live: Prefixes, found: Candidates, lookup: Lookup, settings: BeamSettings) -> Prefixes:
    """The best candidates of each query, group after group."""
    none = np.zeros(0, dtype=np.int64)
    groups, gone_on, gone_on_for = live.groups[found.rows], none, none
    parts = []
    for group in range(settings.groups):
        own = found.of((groups == group) | (groups == EVERY))
        part = _chosen_by(group, live, own, (gone_on, gone_on_for), lookup, settings)
        gone_on = np.append(gone_on, part.written[part.live, -1])
        gone_on_for = np.append(gone_on_for, part.queries[part.live])
        parts.append(part)
    together = Prefixes(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    return together.of(np.argsort(together.queries, kind="stable"))


def _chosen_by(
    group: int,
    live: Prefixes,
    found: Candidates,
    others: tuple[NDArray[np.int64], NDArray[np.int64]],
    lookup: Lookup,
    settings: BeamSettings,
) -> Prefixes:
    """The best candidates of one group; others: tokens of the groups before it, and their queries.

    What is written on are the first of them that are neither complete nor too rare.
    """
    beam = settings.beam // settings.groups
    queries, scores = live.queries[found.rows], live.logprobs[found.rows] + found.logprobs
    cost = settings.diversity * times_chosen(found.tokens, queries, *others)
    best = best_of_each(found, queries, scores - cost, 2 * beam)
    rows, tokens, queries = found.rows[best], found.tokens[best], queries[best]
    written = np.concatenate([live.written[rows], tokens[:, None]], axis=1)
    counts = lookup.counts(queries, written)
    complete = tokens == settings.spelling.eos
    goes_on = np.flatnonzero(~complete & (counts > settings.stop_at_count))
    going = np.zeros(len(rows), dtype=np.bool_)
    going[goes_on[rank_within(queries[goes_on]) < beam]] = True
    groups = np.full(len(rows), group)
    return Prefixes(queries, groups, counts, rows, written, scores[best], complete, going)


def _results(chosen: Prefixes) -> Iterator[ScoredPrefix]:
    """The prefixes as they are given out."""
    columns = (chosen.written, chosen.logprobs, chosen.counts, chosen.complete)
    for written, logprob, count, complete in zip(*(c.tolist() for c in columns), strict=True):
        yield ScoredPrefix(tuple(written[:-1] if complete else written), logprob, count, complete)


def _sorted(prefixes: list[ScoredPrefix], length_penalty: float) -> list[ScoredPrefix]:
    """Best first, each once: groups can come to the same prefix."""
    once = {(prefix.tokens, prefix.complete): prefix for prefix in prefixes}.values()

    def score(prefix: ScoredPrefix) -> float:
        length = len(prefix.tokens) + prefix.complete
        return prefix.logprob / float(length**length_penalty)

    return sorted(once, key=lambda prefix: (-score(prefix), prefix.tokens))
