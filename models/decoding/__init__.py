"""Language models that write only what a constraint allows, and what they think of given texts."""

from .beams import beams
from .constraint import Constraint, Continuations
from .language_model import LanguageModel, load_language_model
from .logits_processor import ConstrainedLogits
from .lookup import Spelling
from .scoring import SequenceScores, score
from .settings import BeamSettings, ScoredPrefix
from .trie import TrieConstraint

__all__ = [
    "BeamSettings",
    "ConstrainedLogits",
    "Constraint",
    "Continuations",
    "LanguageModel",
    "ScoredPrefix",
    "SequenceScores",
    "Spelling",
    "TrieConstraint",
    "beams",
    "load_language_model",
    "score",
]
