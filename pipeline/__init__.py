"""The stages joined: `build` makes a collection from documents, `Library` searches and asks it."""

from .build import BuildReport, Mode, build
from .intake import Step
from .library import Found, Library

__all__ = ["BuildReport", "Found", "Library", "Mode", "Step", "build"]
