"""Queries with operators: "A" AND ("B" OR C) NOT "D", read into a tree that combines scores.

Operators are written in capitals; NOT means "and not". Quotes and parentheses group, and words
side by side are one operand. A text without operators is one operand as it stands.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

Scores: TypeAlias = NDArray[np.float64]
Combine: TypeAlias = Callable[[Sequence[Scores]], Scores]
Remove: TypeAlias = Callable[[Scores, Scores], Scores]

OPERATORS = ("AND", "OR", "NOT")
_TOKEN = re.compile(r'"([^"]*)"|([()])|([^\s()"]+|")')
DEEPEST = 50
"""Parentheses within each other, at most."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How scores of one passage combine: `all` for AND, `any` for OR, `without(kept, removed)`."""

    all: Combine
    any: Combine
    without: Remove


Node: TypeAlias = Callable[[Scores, Rules], Scores]
"""From the scores of all operands (operands, passages) to those of the expression (passages,)."""


@dataclass(frozen=True, slots=True)
class Expression:
    """operands: their texts.  wanted: for each, whether more of it makes a passage better; the
    others are under NOT.  combine: the whole from the scores of the operands.
    """

    operands: tuple[str, ...]
    wanted: tuple[bool, ...]
    combine: Node


def parse_query(text: str) -> Expression:
    """InputError, with the place in words, for operators or parentheses that do not fit."""
    tokens = list(_tokens(text))
    if not any(kind in OPERATORS for kind, _ in tokens):
        return Expression((text,), (True,), lambda scores, rules: scores[0])
    parser = _Parser(text, tokens)
    node = parser.alternatives(wanted=True, depth=0)
    if parser.at < len(tokens):
        raise parser.refused(f"'{tokens[parser.at][1]}' is too many")
    return Expression(tuple(parser.operands), tuple(parser.wanted), node)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Kind and text: an operator or parenthesis is its own kind, all else is a "word"."""
    for quoted, parenthesis, word in _TOKEN.findall(text):
        if parenthesis or word in OPERATORS:
            yield parenthesis or word, parenthesis or word
        elif word or quoted.strip():
            yield "word", word or quoted.strip()


@dataclass(slots=True)
class _Parser:
    """Recursive descent; operands are numbered as they are met."""

    text: str
    tokens: Sequence[tuple[str, str]]
    at: int = 0
    operands: list[str] = field(default_factory=list)
    wanted: list[bool] = field(default_factory=list)

    def alternatives(self, wanted: bool, depth: int) -> Node:
        """One or several with OR between them."""
        if depth > DEEPEST:
            raise self.refused(f"more than {DEEPEST} parentheses within each other")
        nodes = [self._conjunction(wanted, depth)]
        while self._take("OR"):
            nodes.append(self._conjunction(wanted, depth))
        return nodes[0] if len(nodes) == 1 else _any_of(nodes)

    def _conjunction(self, wanted: bool, depth: int) -> Node:
        """Factors with AND, AND NOT or NOT between them; one at least without NOT."""
        kept, removed = [], []
        while True:
            if self._take("NOT"):
                removed.append(self._factor(not wanted, depth))
            else:
                kept.append(self._factor(wanted, depth))
            if not self._take("AND") and self._next() != "NOT":
                break
        if not kept:
            raise self.refused("NOT alone finds nothing")
        node = kept[0] if len(kept) == 1 else _all_of(kept)
        if not removed:
            return node
        return _without(node, removed[0] if len(removed) == 1 else _any_of(removed))

    def _factor(self, wanted: bool, depth: int) -> Node:
        if self._take("("):
            node = self.alternatives(wanted, depth + 1)
            if not self._take(")"):
                raise self.refused("a parenthesis is not closed")
            return node
        words = []
        while self._next() == "word":
            words.append(self.tokens[self.at][1])
            self.at += 1
        if not words:
            found = f"'{self.tokens[self.at][1]}'" if self.at < len(self.tokens) else "the end"
            raise self.refused(f"{found} stands where words should")
        self.operands.append(" ".join(words))
        self.wanted.append(wanted)
        place = len(self.operands) - 1
        return lambda scores, rules: scores[place]

    def _next(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def _take(self, kind: str) -> bool:
        taken = self._next() == kind
        self.at += taken
        return taken

    def refused(self, what: str) -> InputError:
        return InputError(
            f"the query {self.text!r} cannot be read: {what}",
            remedy='Write it like: "A" AND ("B" OR "C") NOT "D"; quote AND, OR and NOT as words',
        )


def _all_of(nodes: Sequence[Node]) -> Node:
    return lambda scores, rules: rules.all([node(scores, rules) for node in nodes])


def _any_of(nodes: Sequence[Node]) -> Node:
    return lambda scores, rules: rules.any([node(scores, rules) for node in nodes])


def _without(kept: Node, removed: Node) -> Node:
    return lambda scores, rules: rules.without(kept(scores, rules), removed(scores, rules))
