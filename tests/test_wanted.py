"""What people may ask for: kinds, names, variants, models and options of indexes."""

import json
from pathlib import Path

import pytest

from ragstone.cli import main
from ragstone.errors import UsageError
from ragstone.indexes.collection import Collection
from ragstone.pipeline import Library, build
from ragstone.pipeline.extend import extend
from ragstone.pipeline.wanted import Wanted, parse_models, parse_options, wanted


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "facts.jsonl"
    lines = [{"id": f"d{i}", "text": f"fact {i} of colour{i % 7}"} for i in range(30)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_kinds_names_variants_models_and_options_are_told_apart() -> None:
    asked = wanted(
        ["bm25", "near=dense:hnsw", "dense"],
        {"near": "hashing", "dense": "some/model"},
        {"near": {"dimensions": 64, "links": 8}},
    )
    assert asked == (
        Wanted("bm25", "bm25", "bm25"),
        Wanted("near", "dense", "near", "hashing", "hnsw", {"dimensions": 64, "links": 8}),
        Wanted("dense", "dense", "dense", "some/model"),
    )
    assert wanted(["bm25", "dense"], "hashing")[1].model == "hashing"


def test_a_group_is_several_indexes_of_one_model() -> None:
    asked = wanted(["bm25", "big=m3"], "some/model", {"big": {"max_length": 64}})
    assert [(one.name, one.kind, one.model) for one in asked] == [
        ("bm25", "bm25", None),
        ("big-dense", "m3-dense", "some/model"),
        ("big-sparse", "m3-sparse", "some/model"),
        ("big-multi", "m3-multi", "some/model"),
    ]
    assert [dict(one.options) for one in asked] == [{}, *[{"max_length": 64}] * 3]
    options = {"big": {"max_length": 64}, "big-multi": {"codes": "float16"}}
    assert [dict(one.options) for one in wanted(["big=m3"], "some/model", options)] == [
        {"max_length": 64},
        {"max_length": 64},
        {"max_length": 64, "codes": "float16"},
    ]


def test_an_index_without_a_default_model_asks_for_one() -> None:
    with pytest.raises(UsageError, match="needs a model. Name one with --model"):
        wanted(["splade"])[0].encoder()


@pytest.mark.parametrize(
    ("specs", "models", "options", "said"),
    [
        (["lexical"], None, {}, "no index kind 'lexical'. Choose from: bm25, dense, late"),
        (["dense:tree"], None, {}, "no variant 'tree'. There are: exact, hnsw, ivf-pq"),
        (["a=b=c"], None, {}, "names no index"),
        ([], None, {}, "no index was named"),
        (["dense", "dense"], None, {}, "two indexes are called 'dense'.*other=dense"),
        (["bm25"], "hashing", {}, "fits 0 of the indexes"),
        (["dense", "x=dense"], "hashing", {}, "Say for which: dense=hashing or x=hashing"),
        (["dense"], {"bm25": "hashing"}, {}, "given for 'bm25'"),
        (["dense"], None, {"other": {"k1": 1}}, "set for 'other'.*indexes are: dense"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_cure(specs, models, options, said) -> None:
    with pytest.raises(UsageError, match=said):
        wanted(specs, models, options)


def test_an_unknown_option_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="no option 'k3'. There are: b, k1"):
        wanted(["bm25"], options={"bm25": {"k3": 1}})[0].encoder()
    with pytest.raises(
        UsageError, match="no option 'bits'. There are: .*bidirectional.*dimensions"
    ):
        wanted(["dense"], "hashing", {"dense": {"bits": 1}})[0].encoder()


def test_the_words_of_the_command_line() -> None:
    assert parse_models([]) is None
    assert parse_models(["some/model"]) == "some/model"
    assert parse_models(["a=some/model"]) == {"a": "some/model"}
    assert parse_models(["a=x", "b=y=z"]) == {"a": "x", "b": "y=z"}
    with pytest.raises(UsageError, match="'x' does not say for which index"):
        parse_models(["a=x", "x"])
    assert parse_options(["a.n=4", "a.name=word", "b.on=true"]) == {
        "a": {"n": 4, "name": "word"},
        "b": {"on": True},
    }
    for wrong in ("a=4", "a.=4", ".n=4", "a.n"):
        with pytest.raises(UsageError, match="sets nothing"):
            parse_options([wrong])


def test_options_reach_encoder_and_index(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    arguments = ["index", source, "--to", folder, "--with", "words=bm25,near=dense:exact"]
    arguments += ["--model", "near=hashing", "--set", "near.dimensions=64"]
    arguments += ["--set", "words.k1=1.2", "--set", "near.index.dtype=float16"]
    assert main([str(one) for one in arguments]) == 0
    collection = Collection.open(folder)
    assert collection.families["words"].settings["k1"] == 1.2
    assert collection.encoders["near"].settings["dimensions"] == 64
    settings = {"dimensions": 64, "dtype": "float16", "search": "exact"}
    assert settings.items() <= collection.families["near"].settings.items()
    library = Library.open(folder)
    assert library.systems == ("near", "words", "hybrid")
    assert library.search("fact 17", 1, using="words+near")[0].passage.id == "d17"
    with pytest.raises(UsageError, match="no index 'dense'. It has: near, words, hybrid"):
        library.search("fact", using="words+dense")


def test_a_collection_gets_more_indexes(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    build(source, folder, using=("bm25",))
    asked = wanted(["dense", "small=dense"], {"dense": "hashing", "small": "hashing"},
                   {"small": {"dimensions": 32}})  # fmt: skip
    steps = []
    extend(folder, asked, progress=steps.append)
    assert [(one.stage, one.passages) for one in steps] == [
        ("encoding dense", 30),
        ("encoding small", 30),
    ]
    whole = tmp_path / "whole"
    build(source, whole, using=("bm25", "dense"), model="hashing")
    one, other = Library.open(folder), Library.open(whole)
    assert one.systems == ("bm25", "dense", "small", "hybrid")
    for using in ("bm25", "dense", "bm25+dense"):
        pairs = [lib.search("colour3 fact 24", 5, using=using) for lib in (one, other)]
        assert pairs[0] == pairs[1]
    with pytest.raises(UsageError, match="an index 'small' already"):
        extend(folder, asked[1:])
    assert main(["extend", str(folder), "--with", "x=dense", "--model", "hashing"]) == 0
    assert "x" in Collection.open(folder).families
