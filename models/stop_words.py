"""English function words as NLTK lists them, and which tokens models learn to pass over."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .sparse_lookup import token_ids

WORD = re.compile("[A-Za-z0-9_-]*")

ENGLISH = frozenset(
    """
    a about above after again against ain all am an and any are aren aren't as at be because been
    before being below between both but by can couldn couldn't d did didn didn't do does doesn
    doesn't doing don don't down during each few for from further had hadn hadn't has hasn hasn't
    have haven haven't having he her here hers herself him himself his how i if in into is isn
    isn't it it's its itself just ll m ma me mightn mightn't more most mustn mustn't my myself
    needn needn't no nor not now o of off on once only or other our ours ourselves out over own re
    s same shan shan't she she's should should've shouldn shouldn't so some such t than that
    that'll the their theirs them themselves then there these they this those through to too under
    until up ve very was wasn wasn't we were weren weren't what when where which while who whom why
    will with won won't wouldn wouldn't y you you'd you'll you're you've your yours yourself
    yourselves
    """.split()
)

QUESTIONS = frozenset("how what when where which who why".split())
"""Those of them that say something in a question."""


def passed_over(tokenizer: Any, size: int, words: frozenset[str]) -> NDArray[np.bool_]:
    """(size,) True for special tokens, `words`, the plural ##s, and what is no word or number."""
    over = np.ones(size, np.bool_)
    for token, number in tokenizer.get_vocab(with_added_tokens=True).items():
        if number < size:
            part = token.startswith("#") and len(token) > 1
            over[number] = not (part or WORD.fullmatch(token)) or token == "##s"
    for ids in token_ids(tokenizer, sorted(words)):
        if len(ids) == 1 and ids[0] < size:
            over[ids[0]] = True
    return over
