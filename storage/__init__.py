"""Durable folders: immutable segments, one manifest a generation, crash-safe commits."""

from .change import Change
from .disk import LOCAL, Disk
from .files import Check
from .manifest import Manifest
from .part import MemoryPart, Part, PartWriter, Stream
from .segment import Segment, SegmentWriter
from .store import Store
from .verify import FileReport, Report

__all__ = [
    "LOCAL",
    "Change",
    "Check",
    "Disk",
    "FileReport",
    "Manifest",
    "MemoryPart",
    "Part",
    "PartWriter",
    "Report",
    "Segment",
    "SegmentWriter",
    "Store",
    "Stream",
]
