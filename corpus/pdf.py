"""PDF files through pypdf: the text layer, page after page."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from .outline import LONGEST, Content
from .problems import Problem

LONGEST_TEXT = 2**26
"""Characters: a hostile PDF can unpack into much more than its size."""


def read(content: bytes) -> Content:
    """The text, a blank line between pages; metadata "pages": where each page begins.

    Raises Problem: encrypted, broken, or without a text layer ("empty").
    """
    with _quiet():
        try:
            pages, title = _pages(content)
        except Problem:
            raise
        except Exception as error:  # pypdf raises nearly anything on a broken file
            reason = f"the PDF cannot be read: {type(error).__name__}: {error}"
            raise Problem("pdf-broken", reason[:300], remedy="Repair or print it again") from None
    if not any(page.strip() for page in pages):
        raise Problem("empty", "the PDF has no text (is it scanned?)")
    return _joined(pages, title)


def _pages(content: bytes) -> tuple[list[str], str]:
    from pypdf import PdfReader  # a tenth of a second, and few sources have PDFs

    reader = PdfReader(BytesIO(content))
    if reader.is_encrypted and not _unlocked(reader.decrypt):
        raise Problem("pdf-encrypted", "the PDF is encrypted", remedy="Save it without password")
    pages, length = [], 0
    for page in reader.pages:
        # What a broken font table leaves behind is no text: replaced rather than refused.
        text = page.extract_text().replace("\0", "\ufffd")
        pages.append(text.encode("utf-8", "replace").decode("utf-8").strip())
        length += len(text)
        if length > LONGEST_TEXT:
            raise Problem("too-large", f"the PDF has more than {LONGEST_TEXT:,} characters of text")
    title = reader.metadata.title if reader.metadata else None
    return pages, title.strip() if isinstance(title, str) else ""


def _unlocked(decrypt: object) -> bool:
    """Whether the empty password opens it, as it does most encrypted PDFs."""
    try:
        return callable(decrypt) and bool(decrypt(""))
    except Exception:  # an unknown cipher, or one that needs a package that is not there
        return False


def _joined(pages: list[str], title: str) -> Content:
    starts, offset = [], 0
    for page in pages:
        starts.append(offset)
        offset += len(page) + 2
    return Content("\n\n".join(pages), " ".join(title.split())[:LONGEST], {"pages": starts})


@contextmanager
def _quiet() -> Iterator[None]:
    """pypdf logs what it repairs on its way; nothing in a library prints."""
    logger = logging.getLogger("pypdf")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
