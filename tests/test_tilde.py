"""TILDEv2 against plain sums over its own network, as keys of an index and as a reranker."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragstone.errors import InputError, Mismatch, UsageError
from ragstone.indexes.collection import Collection
from ragstone.indexes.inverted import Inverted
from ragstone.models import canary, check_encoder, load_encoder
from ragstone.models.tilde import TildeEncoder
from ragstone.records import Passage, Query, Ranking
from ragstone.rerank.tilde import TildeReranker
from ragstone.retrieval.index_retriever import IndexRetriever

from . import sparse_folders as folders
from .small_models import tildev2
from .sparse_folders import TEXTS, WORDS

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)

STOPPED = {"the", "of", "a", "d", "i", "m", "o", "s", "t", "y", "##s", ".", ","}
STOPPED |= {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
CLS, SEP = 2, 3


def reference(folder: Path, ids: list[int]) -> dict[str, float]:
    """The weight of every token of one sequence, by transformers and a loop."""
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    bert = transformers.BertModel(transformers.BertConfig.from_pretrained(folder)).eval()
    bert.load_state_dict(
        {name[5:]: values for name, values in tensors.items() if name.startswith("bert.")},
        strict=False,
    )
    with torch.inference_mode():
        hidden = bert(torch.tensor([ids])).last_hidden_state[0]
        weights = (hidden @ tensors["tok_proj.weight"][0] + tensors["tok_proj.bias"]).relu()
    found: dict[str, float] = {}
    for token, weight in zip(ids, weights.tolist(), strict=True):
        if WORDS[token] not in STOPPED and weight > 0:
            found[WORDS[token]] = max(weight, found.get(WORDS[token], 0))
    return found


def terms(keys: Any, row: int) -> dict[str, float]:
    span = slice(keys.offsets[row], keys.offsets[row + 1])
    names = [keys.vocabulary[id].decode() for id in keys.ids[span]]
    return dict(zip(names, keys.weights[span].tolist(), strict=True))


def token_numbers(text: str) -> list[int]:
    found: list[int] = folders.tokenizer()(text, add_special_tokens=False)["input_ids"]
    return found


def exact(folder: Path, **options: Any) -> TildeEncoder:
    return TildeEncoder(folder, dtype="float32", **options)


def test_each_token_weighs_its_largest_scalar(tmp_path: Path) -> None:
    folder = tildev2(tmp_path)
    encoder = exact(folder, max_length=40)
    done: list[int] = []
    keys = encoder.encode_passages(TEXTS, progress=done.append)
    some = 0
    for row, text in enumerate(TEXTS):
        ids = [CLS, *token_numbers(text)[:38], SEP]
        expected = reference(folder, ids) if text.strip() else {}
        assert terms(keys, row) == pytest.approx(expected, abs=1e-5)
        assert terms(encoder.encode_passages([text]), 0) == pytest.approx(expected, abs=1e-5)
        some += len(expected)
    assert some > 5
    assert sum(done) == len(TEXTS) - 2
    assert exact(folder).max_length == 64
    assert encoder.truncated == 4


def test_queries_are_their_tokens_without_stop_words(tmp_path: Path) -> None:
    texts = ["What is the library? The city library!", "of the", ""]
    keys = exact(tildev2(tmp_path)).encode_queries(texts)
    found = terms(keys, 0)
    assert found["library"] == 2 and found["city"] == 1 and found["what"] == 1
    assert not STOPPED & set(found)
    assert np.diff(keys.offsets).tolist()[1:] == [0, 0]


@pytest.mark.parametrize("tied", [True, False])
def test_expansion_adds_the_likeliest_tokens_that_are_new(tmp_path: Path, tied: bool) -> None:
    folder, head = tildev2(tmp_path / "v2"), tmp_path / "v1"
    config = transformers.BertConfig.from_pretrained(folder, tie_word_embeddings=tied)
    torch.manual_seed(5)
    network = transformers.BertForMaskedLM(config).eval()
    with torch.no_grad():
        for values in network.parameters():
            values += 0.3 * torch.randn_like(values)
    network.save_pretrained(head)
    folders.tokenizer().save_pretrained(head)
    encoder = exact(folder, expander=str(head), expanded=20, max_length=60)
    keys = encoder.encode_passages(TEXTS[:5])
    for row, text in enumerate(TEXTS[:5]):
        if not text.strip():
            assert not terms(keys, row)
            continue
        ids = token_numbers(text)
        with torch.inference_mode():
            logits = network(torch.tensor([[1, *ids, SEP]])).logits[0, 0]
        likely = logits.topk(20).indices.tolist()
        stopped = STOPPED | {"what"}
        added = sorted(i for i in likely if i not in {*ids, 1, SEP} and WORDS[i] not in stopped)
        assert added
        sequence = [CLS, *[*ids, SEP, *added][:58], SEP]
        assert terms(keys, row) == pytest.approx(reference(folder, sequence), abs=1e-5)
    again = load_encoder(json.loads(json.dumps(encoder.fingerprint.settings)))
    assert again.fingerprint == encoder.fingerprint
    with pytest.raises(Mismatch, match="expander files"):
        check_encoder(exact(folder, max_length=60), encoder.fingerprint, name="tilde")
    with pytest.raises(InputError, match="this is no TILDE:"):
        exact(folder, expander=str(folder))
    with pytest.raises(UsageError, match="expanded=0"):
        exact(folder, expander=str(head), expanded=0)


def test_the_encoder_comes_back_and_another_is_refused(tmp_path: Path) -> None:
    built = exact(tildev2(tmp_path / "a"), max_length=30)
    again = load_encoder(json.loads(json.dumps(built.fingerprint.settings)))
    assert again.fingerprint == built.fingerprint
    check_encoder(again, built.fingerprint, canary(built), name="tilde")  # some have no term
    for reason, other in {
        "files": exact(tildev2(tmp_path / "b", seed=1), max_length=30),
        "max_length": exact(tmp_path / "a"),
    }.items():
        with pytest.raises(Mismatch, match=rf"{reason} \("):
            check_encoder(other, built.fingerprint, canary(built), name="tilde")
    with pytest.raises(InputError, match="this is no TILDEv2"):
        TildeEncoder(folders.masked_model(tmp_path / "c"))


def test_index_and_reranker_agree_with_plain_sums(tmp_path: Path) -> None:
    encoder = exact(tildev2(tmp_path / "m"))
    ids = [f"p{9 - place}" for place in range(len(TEXTS))]
    passages = [Passage(id, text) for id, text in zip(ids, TEXTS, strict=True)]
    collection = Collection.create(
        tmp_path / "c.ragstone",
        {"tilde": Inverted(scoring="impact")},
        encoders={"tilde": encoder.fingerprint},
        canaries={"tilde": canary(encoder)},
    )
    with collection.writer() as writer:
        for some in (passages[:5], passages[5:]):
            writer.add(some, {"tilde": encoder.encode_passages([one.text for one in some])})
            writer.commit()
    collection = collection.refresh()
    index, store = collection.indexes["tilde"], collection.passages
    queries = [Query(str(i), text) for i, text in enumerate(["book library book", "city b", "of"])]
    keys = encoder.encode_passages(TEXTS)
    weights = [terms(keys, row) for row in range(len(TEXTS))]
    asked = encoder.encode_queries([query.text for query in queries])
    expected = [
        {
            id: sum(w * own.get(token, 0) for token, w in terms(asked, row).items())
            for id, own in zip(ids, weights, strict=True)
        }
        for row in range(len(queries))
    ]
    found = IndexRetriever(encoder, index, store).retrieve(queries, len(ids))
    stored, read = TildeReranker(encoder, store, index), TildeReranker(encoder, store)
    rankings = [Ranking(query, tuple(ids), np.zeros(len(ids), np.float32)) for query in queries]
    for reranker, precision in ((stored, 1e-3), (read, 1e-5)):  # float16 in the index
        better = reranker.rerank(rankings, 4)
        for ranking, plain in zip(better, expected, strict=True):
            scores = reranker.score(ranking.query.text, ids)
            assert dict(zip(ids, scores.tolist(), strict=True)) == pytest.approx(
                plain, rel=precision, abs=1e-5
            )
            kept = dict(zip(ids, scores.tolist(), strict=True))
            order = sorted(ids, key=lambda id: (-kept[id], id))
            assert list(ranking.ids) == order[:4]
            assert ranking.scores.tolist() == [kept[id] for id in order[:4]]
    for ranking, plain in zip(found, expected, strict=True):
        for id, score in zip(ranking.ids, ranking.scores.tolist(), strict=True):
            assert score == pytest.approx(plain[id], rel=1e-3, abs=1e-5)
    assert found[0].scores[0] > 0
    assert stored.score("book", []).shape == read.score("book", []).shape == (0,)
    assert stored.rerank([], 3) == []
    with pytest.raises(InputError, match="no passage has the id 'nowhere'"):
        stored.score("book", ["nowhere"])
    with pytest.raises(UsageError, match="k is 0"):
        stored.rerank(rankings, 0)
