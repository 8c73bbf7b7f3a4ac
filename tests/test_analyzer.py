"""The analyzer against Unicode's and Lucene's rules, NLTK's stemmer, and a tokeniser by regexes."""

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstone.models import analyzer as module
from ragstone.models.analyzer import STOP_WORDS, Analyzer
from ragstone.models.porter import stem_words
from ragstone.models.word_break import character_classes
from ragstone.records import WeightedTerms


def counts(keys: WeightedTerms) -> list[dict[str, float]]:
    """The terms of each text with their weights, in order."""
    found = []
    for start, end in zip(keys.offsets[:-1], keys.offsets[1:], strict=True):
        terms = [keys.vocabulary[i].decode() for i in keys.ids[start:end]]
        assert len(set(terms)) == len(terms)
        found.append(dict(zip(terms, keys.weights[start:end].tolist(), strict=True)))
    return found


def terms(text: str) -> list[str]:
    return list(counts(Analyzer().encode_passages([text]))[0])


THAI = "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22"
FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
GERMANY, FRANCE = "\U0001f1e9\U0001f1ea", "\U0001f1eb\U0001f1f7"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("can't", ["can't"]),
        ("O'Neill's", ["o'neil"]),
        ("JAMES'S dogs' DOG'S", ["jame", "dog"]),
        ("the dog\u2019s tail\uff07s", ["dog", "tail"]),  # typographic and full-width apostrophes
        ("U.S.A. e.g.", ["u.s.a", "e.g"]),
        ("3.14 1,000.5 1;2 1.a", ["3.14", "1,000.5", "1;2", "1"]),
        ("a.b a,b c:d 1:2", ["a.b", "b", "c:d", "1", "2"]),
        ("foo_bar _x_ __ 2_3 __init__", ["foo_bar", "_x_", "2_3", "__init__"]),
        ("e-mail re-use", ["e", "mail", "re", "us"]),
        ("R2D2 x86_64 3rd", ["r2d2", "x86_64", "3rd"]),
        ("C++ C# .NET", ["c", "net"]),
        ("user@example.com http://x.org", ["user", "example.com", "http", "x.org"]),
        ("\u4e2d\u6587\u3042\u3044", ["\u4e2d", "\u6587", "\u3042", "\u3044"]),
        ("\u30ab\u30bf\u30ab\u30ca\u304b", ["\u30ab\u30bf\u30ab\u30ca", "\u304b"]),
        ("\ud55c\uad6d\uc5b4 \uae00", ["\ud55c\uad6d\uc5b4", "\uae00"]),
        (THAI, [THAI]),
        ("\u05e6\u05d4\u05f4\u05dc \u05d2\u05f3", ["\u05e6\u05d4\u05f4\u05dc", "\u05d2\u05f3"]),
        ('\u05e6\u05d4"\u05dc \u05d2\'', ['\u05e6\u05d4"\u05dc', "\u05d2'"]),  # Hebrew quotes
        ("e\u0301te\u0301 na\u00efve", ["e\u0301te\u0301", "na\u00efv"]),  # combining marks stay
        (f"{FAMILY}!", [FAMILY]),
        (f"{GERMANY}{FRANCE} \U0001f1e9", [GERMANY, FRANCE]),  # a half flag is nothing
        ("\u00a9x \u2122", ["\u00a9", "x", "\u2122"]),  # pictographs by their Unicode property
        ("\u0130STANBUL \u03a3\u0391\u03a3", ["istanbul", "\u03c3\u03b1\u03c3"]),  # one by one
        ("STRASSE \u00df", ["strass", "\u00df"]),
        ("\uff21\uff22\uff11 \u2163", ["\uff41\uff42\uff11", "\u2173"]),
        ("\ufb01ne soft\u00adhyphen", ["\ufb01ne", "soft\u00adhyphen"]),
        ("The and THEIR no", []),
        ("", []),
        (" \t\r\n.,;:!?'\"-", []),
    ],
)  # fmt: skip
def test_words_are_those_of_the_english_analyzer(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


def test_weights_are_frequencies_and_lengths_leave_stop_words_out() -> None:
    keys = Analyzer().encode_passages(["the cat sat, cats sit: CAT", "", "to be or not to be"])
    assert counts(keys) == [{"cat": 3, "sat": 1, "sit": 1}, {}, {}]
    assert keys.lengths.tolist() == [5, 0, 0]
    assert (keys.offsets.dtype, keys.ids.dtype, keys.weights.dtype, keys.lengths.dtype) == (
        np.int64, np.int32, np.float32, np.int32,
    )  # fmt: skip


def test_words_are_cut_at_255_units() -> None:
    assert [len(term) for term in terms("a1" * 300)] == [255, 255, 90]
    assert [len(term) for term in terms("a" + "\u0301" * 300)] == [255]  # the other marks are alone
    astral = "\U00010400" * 200  # two UTF-16 units each
    assert [len(term) for term in terms(astral)] == [127, 73]
    assert terms("x" * 255 + " y") == ["x" * 255, "y"]
    assert terms("_" * 300 + "z") == ["_" * 254 + "z"]
    assert terms("b" * 254 + ".c") == ["b" * 254, "c"]


# The grammar of Lucene's StandardTokenizer over one letter a class, matched longest first.
_NAMES = "oAHNK_mdeqQxSJRPFz"  # z: the zero-width joiner, otherwise an x
_X = "[xz]*"
_GROUP = (
    rf"(?:K{_X}(?:(?:_{_X})*K{_X})*"
    rf"|(?:H{_X}(?:q{_X}|Q{_X}H{_X})|N{_X}(?:(?:(?:_{_X})*|[deq]{_X})N{_X})*"
    rf"|[AH]{_X}(?:(?:(?:_{_X})*|[meq]{_X})[AH]{_X})*)+)"
)
_RULES = [
    re.compile(rule)
    for rule in (
        rf"(?:_{_X})*{_GROUP}(?:(?:_{_X})+{_GROUP})*(?:_{_X})*",
        rf"(?:S{_X})+",
        rf"[JR]{_X}",
        rf"P{_X}(?:(?<=z)P{_X})*",
        rf"F{_X}F{_X}",
    )
]


def slow_tokens(text: str) -> Iterator[str]:
    """What a tokeniser that tries every end, the farthest first, finds."""
    labels = character_classes()
    classes = "".join("z" if c == "\u200d" else _NAMES[labels[ord(c)]] for c in text)
    start = 0
    while start < len(text):
        for end in range(min(len(text), start + 255), start, -1):
            if any(rule.fullmatch(classes, start, end) for rule in _RULES):
                yield text[start:end]
                break
        else:
            end = start + 1
        start = end


ODD = "aAz09__.,:;'\"\u2019- \u00e9\u0301\u200d\u0416\u05d0\u30ab\u3042\u4e2d"
ODD += "\u0e01\u0e34\u2122\u00a9\U0001f1e9"


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from(ODD), max_size=14))
def test_tokens_are_those_of_the_grammar(text: str) -> None:
    words, starts = module.Words(np.uint64(0)), [text.encode()]
    numbers, _ = words.number(starts)
    found = [words.since(0, 0)[number].decode() for number in numbers]
    ascii_lower = str.maketrans({c: c.lower() for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"})
    assert found == [token.translate(ascii_lower) for token in slow_tokens(text)]


def stemmed(words: Sequence[str]) -> list[str]:
    units = np.frombuffer("".join(f"{word}\n" for word in words).encode("utf-16-le"), np.uint16)
    units = units.copy()
    return units[: stem_words(units)].tobytes().decode("utf-16-le").split("\n")[:-1]


def test_stems_of_the_paper() -> None:
    examples = """
    caresses caress ponies poni ties ti caress caress cats cat feed feed agreed agre plastered
    plaster bled bled motoring motor sing sing conflated conflat troubled troubl sized size hopping
    hop tanned tan falling fall hissing hiss fizzed fizz failing fail filing file happy happi sky
    sky relational relat conditional condit rational ration valenci valenc hesitanci hesit digitizer
    digit conformabli conform radicalli radic differentli differ vileli vile analogousli analog
    vietnamization vietnam predication predic operator oper feudalism feudal decisiveness decis
    hopefulness hope callousness callous formaliti formal sensitiviti sensit sensibiliti sensibl
    triplicate triplic formative form formalize formal electriciti electr electrical electr hopeful
    hope goodness good revival reviv allowance allow inference infer airliner airlin gyroscopic
    gyroscop adjustable adjust defensible defens irritant irrit replacement replac adjustment adjust
    dependent depend adoption adopt homologou homolog communism commun activate activ angulariti
    angular homologous homolog effective effect bowdlerize bowdler probate probat rate rate cease
    ceas controll control roll roll ies i as as a a archaeology archaeolog possibly possibl
    """.split()
    assert stemmed(examples[::2]) == examples[1::2]


def test_stems_equal_nltk() -> None:
    """On every word of Python's reference, and on made-up words with many suffixes."""
    topics = pytest.importorskip("pydoc_data.topics").topics
    porter = pytest.importorskip("nltk.stem.porter").PorterStemmer
    oracle = porter(mode=porter.MARTIN_EXTENSIONS)
    words = set(re.findall("[a-z]+", " ".join(topics.values()).lower()))
    random = np.random.default_rng(3)
    suffixes = (
        "sses ies s eed ed ing at bl iz ational bli logi ization ful ness able ement ion e ll y"
    )
    for _ in range(3000):
        letters = random.choice(list("aeioubcdlstxyz"), random.integers(1, 6))
        endings = random.choice(suffixes.split(), random.integers(1, 3))
        words.add("".join([*letters, *endings]))
    assert len(words) > 5000
    assert stemmed(sorted(words)) == [oracle.stem(word) for word in sorted(words)]


def test_letters_beyond_ascii_are_consonants_of_one_unit() -> None:
    words = ["na\u00efved", "\u00e9s", "ab\u00e9\u00e9ed", "\u044b\u044bing", "\u00fcber"]
    stems = ["na\u00efv", "\u00e9s", "ab\u00e9", "\u044b\u044bing", "\u00fcber"]
    assert stemmed(words) == stems


SENTENCES = st.lists(
    st.text(st.sampled_from("abdeginorstuy AB.'\u00e9\u4e2d_1"), max_size=40), max_size=8
)


@settings(max_examples=60, deadline=None)
@given(SENTENCES, st.integers(0, 3))
def test_batches_and_forgetting_change_nothing(texts: list[str], room: int) -> None:
    one, forgetful = Analyzer(), Analyzer()
    whole = one.encode_passages(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROOM", room)
        single = [forgetful.encode_passages([text]) for text in texts]
    assert counts(whole) == [counts(keys)[0] for keys in single]
    assert whole.lengths.tolist() == [keys.lengths[0] for keys in single]
    for text, found in zip(texts, counts(one.encode_queries(texts)), strict=True):
        plain = [t.lower() for t in slow_tokens(text)]
        plain = [t[:-2] if t.endswith("'s") else t for t in plain]
        assert found == Counter(stemmed([t for t in plain if t not in STOP_WORDS]))


def test_threads_share_an_analyzer() -> None:
    analyzer = Analyzer()
    texts = [f"word{i} word{i // 7} running {'x' * (i % 9 + 1)}" for i in range(400)]
    expected, found = counts(Analyzer().encode_passages(texts)), {}

    def encode(start: int) -> None:
        found[start] = [counts(analyzer.encode_passages([text]))[0] for text in texts[start:]]

    threads = [threading.Thread(target=encode, args=(start,)) for start in (0, 50, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[start] == expected[start:] for start in (0, 50, 100))


HOSTILE = {
    "joiners": "_" * 255 + "-",
    "one run of joiners": "_",
    "marks": "\u0301",
    "a word of marks": "a\u0301",
    "quotes": "a'",
    "dots": "1.",
    "y": "y",
    "pictures": "\U0001f469\u200d",
    "flags": "\U0001f1e9",
    "broken bridges": "a'" + "\u0301" * 250,
    "distinct": "",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_time_is_linear(name: str) -> None:
    size = 200_000
    text = (HOSTILE[name] * size)[:size] if HOSTILE[name] else " ".join(map(str, range(30_000)))
    Analyzer().encode_passages([text[:1000]])
    start = time.process_time()
    Analyzer().encode_passages([text])
    assert time.process_time() - start < 1.0  # quadratic time would be minutes


def test_lone_surrogates_and_zero_bytes_only_separate() -> None:
    assert terms("ab\ud800cd\x00ef\udfff") == ["ab", "cd", "ef"]


def test_fingerprint_names_the_rules() -> None:
    first, second = Analyzer().fingerprint, Analyzer().fingerprint
    assert first == second and first.name == "english" and len(first.digest) == 64
    assert first.settings["class"] == "analyzer"


def test_word_classes_are_those_of_unicode() -> None:
    """Against the tables of the `regex` package, where that is of the same Unicode version."""
    regex = pytest.importorskip("regex")
    labels = character_classes()
    for name, label in {"ALetter": 1, "Hebrew_Letter": 2, "Numeric": 3, "Katakana": 4}.items():
        expected = regex.compile(rf"\p{{Word_Break={name}}}")
        text = "".join(map(chr, range(0xD800))) + "".join(map(chr, range(0xE000, 0x20000)))
        found = [c for c in text if labels[ord(c)] == label]
        differ = set(found) ^ set(expected.findall(text))
        assert len(differ) < 0.01 * len(found)


@pytest.mark.skipif(not os.environ.get("RAGSTONE_DATA"), reason="RAGSTONE_DATA names no data")
def test_a_real_corpus_has_the_length_that_lucene_counts() -> None:
    from pathlib import Path

    from ragstone.corpus import open_source

    source = open_source(Path(os.environ["RAGSTONE_DATA"]) / "beir-scifact")
    texts = [f"{passage.title} {passage.text}" for passage, _ in source.documents()]
    keys = Analyzer().encode_passages(texts)
    assert len(keys.vocabulary) == 28_865 and int(keys.lengths.sum()) == 838_128
