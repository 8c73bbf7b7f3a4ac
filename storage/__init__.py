"""Durable folders: immutable segments, one manifest a generation, crash-safe commits."""

from .disk import LOCAL, Disk
from .part import MemoryPart, Part, PartWriter, Stream

__all__ = ["LOCAL", "Disk", "MemoryPart", "Part", "PartWriter", "Stream"]
