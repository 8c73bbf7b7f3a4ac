"""No text makes a reader, the sentences or the chunks take more than linear time."""

import gc
import time

import pytest

from ragstone.corpus import Chunker, markdown, plain, sentences, webpage
from ragstone.corpus.problems import Problem
from ragstone.corpus.strict import parse
from ragstone.records import Passage

GROWTH = 4
MOST = 2.5**2  # 2.5 for each doubling; a quadratic reader has 16


def seconds(function, text):
    """The best of three, without the collector's pauses."""
    times = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            start = time.process_time()
            function(text)
            times.append(time.process_time() - start)
    finally:
        gc.enable()
    return min(times)


def assert_linear(function, piece, length, end=""):
    count = length // len(piece)
    short = seconds(function, piece * count + end)
    long = seconds(function, piece * (GROWTH * count) + end)
    assert long <= MOST * short or long < 0.02, (piece, short, long)


PAGES = ['<a href="', "<a b='", "<a ", "<a =", "<!--", "<![", "</a", "<div>", "<li><p>", "&#"]
PAGES += ["<nav>", '<a b=">" ', "<pre>", "<title>", "<svg/>", "<"]


@pytest.mark.parametrize("end", ["", ">"])
@pytest.mark.parametrize("piece", PAGES)
def test_pages(piece, end):
    assert_linear(webpage.read, piece, 15_000, end)


@pytest.mark.parametrize("piece", ["a\n=\n", "====\na\n", " \n", "def a\n", "        async ", "="])
def test_sources(piece):
    assert_linear(plain.read_restructured, piece, 12_000)
    assert_linear(plain.read_python, piece, 12_000)


@pytest.mark.parametrize("piece", ["[", "*a _b_ ", "> ", "- ", "`a``", "|a|b|\n|-|-|\n", "---\n"])
def test_markdown(piece):
    assert_linear(markdown.read, piece, 2_000)


TEXTS = [".", ". ", "a.", ".a", "A. ", "?!", '."', " ", "\n", "\n ", "\n- ", "a", "e.g. ", "1. "]
TEXTS += [
    "\n1. ",
    ".)",
    "。",
    '"',
    '. "',
    "\n\n",
    "Mr.",
    ".\n",
    "… ",
    "word ",
    "中",
    " " * 40 + "a",
]


@pytest.mark.parametrize("piece", TEXTS)
def test_sentences_and_chunks(piece):
    assert_linear(sentences, piece, 8_000)
    assert_linear(lambda text: Chunker().chunks(Passage("d", text)), piece, 8_000)


def test_many_headings():
    def chunk(text):
        outline = [[at, 1 + at % 90, "a"] for at in range(0, len(text), 2)]
        Chunker().chunks(Passage("d", text, "", {"outline": outline}))

    assert_linear(chunk, "a\n", 5_000)


OBJECTS = ['{"a":1},', "[[1]],", '"\\\\u0000",', '"\\u0000",', "1e5,"]


@pytest.mark.parametrize("piece", OBJECTS)
def test_json(piece):
    def read(text):
        try:
            parse(b'{"x": [' + text.encode() + b"0]}")
        except Problem:
            pass

    assert_linear(read, piece, 12_000)


def test_keys_of_json():
    def read(text):
        keys = ", ".join(f'"{at}": 1' for at in range(len(text)))
        with pytest.raises(Problem, match="stands twice"):
            parse(f'{{{keys}, "0": 1}}'.encode())

    assert_linear(read, "x", 5_000)
