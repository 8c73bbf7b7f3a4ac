"""Prompted language models against a plain pass of transformers, and what their views share."""

import gc
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ragstone.errors import InputError, Mismatch, UsageError
from ragstone.indexes.collection import Collection
from ragstone.indexes.inverted import Inverted
from ragstone.indexes.vector import Vector
from ragstone.models import canary, check_encoder, load_encoder
from ragstone.models.sparse_prompted import PromptedDense, PromptedSparse, PromptReps
from ragstone.records import Passage, Query
from ragstone.retrieval.index_retriever import IndexRetriever

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)

TEXTS = [
    "the quick brown fox jumps over the lazy dog",
    "",
    "of the",
    "Foxes, dogs; library-books: the state-of-the-art!",
    "   ",
    "a dog",
    "brown " * 60,
    "東京 fox",
]
CHAT = (
    "{% for turn in messages %}<|{{ turn.role }}|>{{ turn.content }}"
    "{% if not loop.last %}<|end|>{% endif %}{% endfor %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + CHAT


def language_model(folder: Path, *, kind: str = "Llama", chat: str | None = CHAT) -> Path:
    """A small random decoder with a byte-level tokenizer trained on the texts."""
    from tokenizers import ByteLevelBPETokenizer

    core = ByteLevelBPETokenizer()
    core.train_from_iterator(
        [*TEXTS * 5, *re.findall(r"\w+", " ".join(TEXTS)) * 5],
        vocab_size=400,
        min_frequency=2,
        special_tokens=["<s>", "</s>", "<|end|>", "<|user|>", "<|system|>", "<|assistant|>"],
        show_progress=False,
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core._tokenizer, bos_token="<s>", eos_token="</s>"
    )
    tokenizer.chat_template = chat
    sizes = {"vocab_size": len(tokenizer) + 2, "hidden_size": 32, "intermediate_size": 64}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    options: dict[str, Any] = {"head_dim": 8} if kind == "Gemma2" else {}
    config = getattr(transformers, f"{kind}Config")(**sizes, **options)
    torch.manual_seed(0)
    network = getattr(transformers, f"{kind}ForCausalLM")(config)
    with torch.no_grad():
        for values in network.parameters():
            values += 0.2 * torch.randn_like(values)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@lru_cache(maxsize=1)
def loaded(folder: Path) -> tuple[Any, Any]:
    network = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    return transformers.AutoTokenizer.from_pretrained(folder), network


def reference(folder: Path, text: str, before: str, after: str) -> tuple[Any, dict[str, float]]:
    """The vector and the terms of one text, in the words of the paper."""
    tokenizer, network = loaded(folder)

    def ids(part: str) -> list[int]:
        found: list[int] = tokenizer.encode(part, add_special_tokens=False)
        return found

    with torch.inference_mode():
        found = network(
            torch.tensor([[*ids(before), *ids(text)[:20], *ids(after)]]), output_hidden_states=True
        )
    state = found.hidden_states[-1][0, -1]
    logits = torch.log(1 + torch.relu(found.logits[0, -1]))
    stopped = {"the", "of", "over", "a", "in"}
    words = [w for w in re.findall(r"\w+(?:[-.']\w+)*", text.lower()) if w not in stopped]
    tokens = sorted({token for word in words for token in ids(word)})
    if not tokens:
        tokens = logits.topk(10).indices.tolist()
    names = tokenizer.convert_ids_to_tokens(tokens)
    names = [name or f"[{place}]" for place, name in enumerate(names)]
    weights = {name: float(logits[token]) for name, token in zip(names, tokens, strict=True)}
    return (state / state.norm()).numpy(), {name: w for name, w in weights.items() if w > 0}


def terms(keys: Any, row: int) -> dict[str, float]:
    span = slice(keys.offsets[row], keys.offsets[row + 1])
    names = [keys.vocabulary[id].decode() for id in keys.ids[span]]
    return dict(zip(names, keys.weights[span].tolist(), strict=True))


def exact(folder: Path, **options: Any) -> PromptReps:
    return PromptReps(folder, **{"dtype": "float32", "max_length": 20, **options})


ASKED = "Use one word to represent the {} in a retrieval task. Make sure your word is in lowercase."
SYSTEM = "<|system|>You are an AI assistant that can understand human language.<|end|>"


@pytest.mark.parametrize(
    ("kind", "chat", "system"),
    [("Llama", CHAT, SYSTEM), ("Qwen2", NO_SYSTEM, ""), ("Gemma2", CHAT, SYSTEM)],
)
def test_vectors_and_terms_are_those_of_the_paper_s_prompt(
    tmp_path: Path, kind: str, chat: str, system: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = language_model(tmp_path, kind=kind, chat=chat)
    capfd.readouterr()
    both = exact(folder)
    done: list[int] = []
    some = 0
    for name, dense, sparse in (
        ("passage", both.dense.encode_passages(TEXTS), both.sparse.encode_passages(TEXTS)),
        (
            "query",
            both.dense.encode_queries(TEXTS, progress=done.append),
            both.sparse.encode_queries(TEXTS),
        ),
    ):
        before = f'{system}<|user|>{name.capitalize()}: "'
        after = f'". {ASKED.format(name)}<|end|><|assistant|>The word is "'
        for row, text in enumerate(TEXTS):
            vector, weights = reference(folder, text, before, after)
            np.testing.assert_allclose(dense[row], vector, atol=1e-5)
            weights = weights if text.strip() else {}
            assert terms(sparse, row) == pytest.approx(weights, abs=1e-5)
            some += len(weights)
    assert some > 20
    assert sum(done) == len(TEXTS)
    assert both.dense.truncated == 2 and both.dense.encoded == 2 * len(TEXTS)
    out, err = capfd.readouterr()
    assert out == "" and "Warn" not in err


def test_without_a_chat_template_the_prompt_is_plain_text(tmp_path: Path) -> None:
    folder = language_model(tmp_path, chat=None)
    both = exact(folder, passage_prompt="About {text} say", answer="it is")
    vector, weights = reference(folder, TEXTS[0], "About ", " say it is")
    np.testing.assert_allclose(both.dense.encode_passages(TEXTS[:1])[0], vector, atol=1e-5)
    assert terms(both.sparse.encode_passages(TEXTS[:1]), 0) == pytest.approx(weights, abs=1e-5)


def test_one_text_alone_is_as_among_others(tmp_path: Path) -> None:
    both = exact(language_model(tmp_path))
    dense, sparse = both.dense.encode_passages(TEXTS), both.sparse.encode_passages(TEXTS)
    for row, text in enumerate(TEXTS):
        np.testing.assert_allclose(both.dense.encode_passages([text])[0], dense[row], atol=1e-5)
        alone = terms(both.sparse.encode_passages([text]), 0)
        assert alone == pytest.approx(terms(sparse, row), abs=1e-5)
    assert both.dense.encode_passages([]).shape == (0, 32)
    assert len(both.sparse.encode_passages([])) == 0


def test_two_encoders_take_one_pass_in_whatever_slices(tmp_path: Path) -> None:
    folder = language_model(tmp_path)
    dense = PromptedDense(folder, dtype="float32")
    sparse = load_encoder(PromptedSparse(folder, dtype="float32").fingerprint.settings)
    assert sparse._shared is dense._shared
    shared = dense._shared
    for start in (0, 3):
        dense.encode_passages(TEXTS[start : start + 3])
    assert shared.passes == 2
    together: Any = sparse.encode_passages(TEXTS[:6])
    assert shared.passes == 2 and not shared._kept
    assert len(together) == 6
    sparse.encode_passages(TEXTS[:2])
    assert shared.passes == 3  # what was taken is not kept
    sparse.encode_queries(TEXTS[:2])
    assert shared.passes == 4  # a query is asked otherwise
    other = PromptedSparse(folder, dtype="float32", answer="It is")
    assert other._shared is not shared
    alone = PromptedSparse(folder, dtype="float32", max_length=9)
    alone.encode_passages(TEXTS)
    assert not alone._shared._kept


def test_a_model_is_let_go_with_its_encoders(tmp_path: Path) -> None:
    from ragstone.models.sparse_prompted_pass import _LOADED

    folder = language_model(tmp_path)
    both = PromptReps(folder)
    held = [key for key in _LOADED if key[0] == folder.resolve()]
    assert len(held) == 1
    del both
    gc.collect()
    assert not [key for key in _LOADED if key[0] == folder.resolve()]


def test_the_heaviest_terms_are_kept(tmp_path: Path) -> None:
    folder = language_model(tmp_path)
    whole = PromptedSparse(folder, dtype="float32").encode_passages(TEXTS)
    few = PromptedSparse(folder, dtype="float32", terms=2).encode_passages(TEXTS)
    for row in range(len(TEXTS)):
        best = sorted(terms(whole, row).items(), key=lambda one: -one[1])[:2]
        assert terms(few, row) == pytest.approx(dict(best), abs=1e-6)


def test_the_encoders_come_back_and_others_are_refused(tmp_path: Path) -> None:
    folder = language_model(tmp_path)
    options: dict[str, Any] = {"query_prompt": "Q {text}", "passage_prompt": "P {text}"}
    options |= {"answer": "So:", "max_length": 9, "dtype": "float32"}
    for built in (PromptedDense(folder, **options), PromptedSparse(folder, terms=5, **options)):
        again = load_encoder(json.loads(json.dumps(built.fingerprint.settings)))
        assert again.fingerprint == built.fingerprint
        check_encoder(again, built.fingerprint, canary(built), name="llm")
        for name, value in {
            "query_prompt": "R {text}",
            "passage_prompt": "R {text}",
            "answer": "Thus:",
            "max_length": 8,
        }.items():
            other = type(built)(folder, **{**options, name: value})
            with pytest.raises(Mismatch, match=rf"{name} \("):
                check_encoder(other, built.fingerprint, name="llm")
    with pytest.raises(UsageError, match="does not say where the text goes"):
        PromptedDense(folder, query_prompt="what?")
    with pytest.raises(UsageError, match="terms=0"):
        PromptedSparse(folder, terms=0)
    with pytest.raises(UsageError, match="max_length=0"):
        PromptedSparse(folder, max_length=0)
    broken = language_model(tmp_path / "b", chat="{{ messages[0].role }}")
    with pytest.raises(InputError, match="does not show the user's text once"):
        PromptedDense(broken).encode_queries(["a"])


def test_two_indexes_are_filled_by_one_pass_and_searched(tmp_path: Path) -> None:
    both = exact(language_model(tmp_path / "m"))
    encoders: dict[str, Any] = {"dense": both.dense, "sparse": both.sparse}
    families: dict[str, Any] = {
        "dense": Vector(dimensions=both.dense.dimensions),
        "sparse": Inverted(scoring="impact"),
    }
    collection = Collection.create(
        tmp_path / "c.ragstone",
        families,
        encoders={name: one.fingerprint for name, one in encoders.items()},
        canaries={name: canary(one) for name, one in encoders.items()},
    )
    passages = [Passage(f"p{place}", text) for place, text in enumerate(TEXTS)]
    before = both.dense._shared.passes
    with collection.writer() as writer:
        writer.add(passages, {name: one.encode_passages(TEXTS) for name, one in encoders.items()})
        writer.commit()
    assert both.dense._shared.passes == before + 1
    collection = collection.refresh()
    query = Query("q", "lazy brown dog")
    vectors, weights = both.dense.encode_passages(TEXTS), both.sparse.encode_passages(TEXTS)
    plain: dict[str, NDArray[np.float32]] = {
        "dense": vectors @ both.dense.encode_queries([query.text])[0]
    }
    asked = terms(both.sparse.encode_queries([query.text]), 0)
    plain["sparse"] = np.array(
        [
            sum(w * terms(weights, row).get(token, 0) for token, w in asked.items())
            for row in range(len(TEXTS))
        ],
        np.float32,
    )
    for name, encoder in encoders.items():
        again = load_encoder(collection.encoders[name].settings)
        check_encoder(again, collection.encoders[name], collection.canaries[name], name=name)
        retriever = IndexRetriever(encoder, collection.indexes[name], collection.passages)
        ranking = retriever.retrieve([query], len(TEXTS))[0]
        assert ranking.ids[0] == f"p{int(plain[name].argmax())}"
        for id, score in zip(ranking.ids, ranking.scores.tolist(), strict=True):
            assert score == pytest.approx(plain[name][int(id[1:])], rel=2e-3, abs=2e-3)
