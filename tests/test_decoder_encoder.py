"""Decoder language models as encoders, against transformers run on one text at a time."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ragstone.errors import InputError, Mismatch, UsageError
from ragstone.models import BiEncoder, HashingEncoder, canary, check_encoder, load_encoder
from ragstone.models.decoder_encoder import DecoderEncoder, token_weights
from ragstone.models.decoder_model import Pass
from ragstone.models.decoder_text import ECHO, ONE_WORD, Prompted, fill, query_template
from ragstone.models.encoder_kinds import open_encoder
from ragstone.models.late_chunking import ChunkedText

from .decoders import LAYERS, WIDTH, WORDS, make_decoder

Vectors = NDArray[np.float32]
Decoder = Callable[..., Path]

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

FAMILIES = ["Llama", "Mistral", "Qwen2", "Qwen3", "Gemma", "Gemma2", "Gemma3", "Phi3", "GPT2"]
TEXTS = ["the book", "a", "the library of the book of a b c d e f g h", "é . z", "of a book"]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    made: dict[tuple[str, bool], Path] = {}

    def make(family: str = "Llama", *, start: bool = True) -> Path:
        key = (family, start)
        if key not in made:
            made[key] = make_decoder(tmp_path_factory.mktemp(family), family, start=start)
        return made[key]

    return make


def encoder(folder: Path, **options: Any) -> DecoderEncoder:
    return DecoderEncoder(folder, **{"dtype": "float32", **options})


def transformer(folder: Path) -> Any:
    from transformers import AutoModel

    from ragstone.models.decoder_model import no_reports
    from ragstone.models.loaded_encoder import no_progress_bars

    with no_progress_bars(), no_reports():
        return AutoModel.from_pretrained(folder, local_files_only=True).eval()


def ids_of(text: str, *, start: bool = True, end: bool = False) -> list[int]:
    """The tokens of a text whose words and signs stand apart."""
    return [1] * start + [WORDS.index(word) for word in text.split()] + [2] * end


def own_ids(folder: Path, text: str) -> list[int]:
    """The tokens of a text by the folder's tokenizer: a family may have its own rules."""
    from transformers import AutoTokenizer

    return list(AutoTokenizer.from_pretrained(folder, local_files_only=True)(text)["input_ids"])


def states(folder: Path, ids: Sequence[int], layer: int = LAYERS, *, both: bool = False) -> Any:
    """(tokens, d): hidden_states[layer] of one text alone; `both`: the library's own switch."""
    model = transformer(folder)
    given: dict[str, Any] = {"input_ids": torch.tensor([ids]), "output_hidden_states": True}
    if both:
        model.config.is_causal = False
        given["is_causal"] = False
    with torch.inference_mode():
        return model(**given, use_cache=False).hidden_states[layer][0]


def unit(rows: Sequence[Any]) -> Vectors:
    vectors = np.stack([np.asarray(row, dtype=np.float32) for row in rows])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


# --- equal to a plain computation


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_and_pooling_is_the_plain_computation(decoder: Decoder, family: str) -> None:
    folder = decoder(family)
    alone = [states(folder, own_ids(folder, text)) for text in TEXTS]
    shares = [np.arange(1, len(one)) / np.arange(1, len(one)).sum() for one in alone]
    expected = {
        "last": [one[-1] for one in alone],
        "mean": [one[1:].mean(0) for one in alone],
        "weighted-mean": [s @ one[1:].numpy() for s, one in zip(shares, alone, strict=True)],
    }
    for pooling, rows in expected.items():
        made = encoder(folder, pooling=pooling)
        np.testing.assert_allclose(made.encode_passages(TEXTS), unit(rows), atol=1e-5)
        np.testing.assert_allclose(made.encode_queries(TEXTS[:1]), unit(rows[:1]), atol=1e-5)
        assert made.dimensions == WIDTH


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "GPT2"])
def test_attention_in_both_directions_is_that_of_transformers(
    decoder: Decoder, family: str
) -> None:
    folder = decoder(family)
    expected = unit([states(folder, own_ids(folder, t), both=True)[1:].mean(0) for t in TEXTS])
    found = encoder(folder, bidirectional=True, pooling="mean").encode_passages(TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_later_tokens_are_seen_in_both_directions_and_else_are_not(
    decoder: Decoder, family: str
) -> None:
    """The first of three tokens, with the last one changed, beside a longer text or alone."""
    made = encoder(decoder(family))._decoder
    given = [np.array(ids, dtype=np.int32) for ids in ([1, 5, 7], [1, 5, 9], [1, 5, 7, 8, 9, 4])]
    causal = made.hidden(given, None, Pass())
    torch.testing.assert_close(causal[0, :2], causal[1, :2], atol=1e-6, rtol=0)
    torch.testing.assert_close(causal[0, :3], causal[2, :3], atol=1e-5, rtol=0)
    both = made.hidden(given, None, Pass(bidirectional=True))
    assert (both[0, :2] - both[1, :2]).abs().max() > 1e-3
    alone = made.hidden(given[:1], None, Pass(bidirectional=True))
    torch.testing.assert_close(both[0, :3], alone[0], atol=1e-5, rtol=0)


def test_a_pass_leaves_nothing_behind(decoder: Decoder) -> None:
    made = encoder(decoder("Qwen2"))._decoder
    given = [np.array([1, 5, 7], dtype=np.int32)]
    model, config = made.transformer, made.transformer.config.to_dict()
    before = made.hidden(given, None, Pass())
    made.hidden(given, None, Pass(bidirectional=True))
    made.hidden(given, [1], Pass(prepend_layers=2))
    torch.testing.assert_close(made.hidden(given, None, Pass()), before, atol=0, rtol=0)
    assert made.transformer is model
    assert model.config.to_dict() == config
    hooks = [layer._forward_pre_hooks | layer._forward_hooks for layer in model.layers]
    assert not any(hooks)


def test_hooks_are_taken_off_when_a_pass_fails(decoder: Decoder) -> None:
    made = encoder(decoder())._decoder
    with pytest.raises(IndexError):
        made.hidden([np.array([1, 10_000], dtype=np.int32)], None, Pass())
    assert not any(layer._forward_hooks for layer in made.transformer.layers)


def test_a_model_that_ignores_the_mask_is_refused(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaModel

    plain = LlamaModel.forward

    def deaf(self: Any, *args: Any, attention_mask: Any = None, **given: Any) -> Any:
        return plain(self, *args, **given)

    monkeypatch.setattr(LlamaModel, "forward", deaf)
    with pytest.raises(UsageError, match=r"bidirectional=True, but .* whatever the mask says"):
        encoder(decoder(), bidirectional=True).encode_queries(["a"])


# --- layers and dimensions


@pytest.mark.parametrize("layer", [1, 3])
@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Gemma3", "GPT2"])
def test_the_first_layers_are_the_hidden_states(decoder: Decoder, family: str, layer: int) -> None:
    folder = decoder(family)
    raw = [states(folder, own_ids(folder, text), layer)[-1] for text in TEXTS]
    made = encoder(folder, layers=layer, final_norm=False)
    np.testing.assert_allclose(made.encode_passages(TEXTS), unit(raw), atol=1e-5)
    model = transformer(folder)
    norm = model.ln_f if family == "GPT2" else model.norm
    with torch.inference_mode():
        normed = [norm(row) for row in raw]
    found = encoder(folder, layers=layer).encode_passages(TEXTS)
    np.testing.assert_allclose(found, unit(normed), atol=1e-5)
    assert len(made._decoder._layers) == layer


def test_the_first_dimensions_are_those_of_the_whole(decoder: Decoder) -> None:
    folder = decoder()
    whole = encoder(folder).encode_passages(TEXTS)
    found = encoder(folder, dimensions=5).encode_passages(TEXTS)
    np.testing.assert_allclose(found, unit(list(whole[:, :5])), atol=1e-5)
    long = encoder(folder, normalize=False).encode_passages(TEXTS)
    np.testing.assert_allclose(unit(list(long)), whole, atol=1e-5)


# --- templates


def test_templates_stand_around_the_text_and_stay_out_of_the_mean(decoder: Decoder) -> None:
    folder = decoder()
    template = "the sentence : {text} means ."
    whole = states(folder, ids_of("the sentence : a book means ."))
    for options, rows in (
        ({"pooling": "last"}, whole[-1]),
        ({"pooling": "mean"}, whole[4:6].mean(0)),
        ({"pooling": "mean", "pool_template": True}, whole.mean(0)),
    ):
        made = encoder(folder, passage_template=template, **options)
        np.testing.assert_allclose(made.encode_passages(["a book"]), unit([rows]), atol=1e-5)


def test_an_end_token_is_appended_and_read(decoder: Decoder) -> None:
    folder = decoder(start=False)
    expected = [states(folder, ids_of(text, start=False, end=True))[-1] for text in TEXTS]
    np.testing.assert_allclose(
        encoder(folder, eos=True).encode_passages(TEXTS), unit(expected), atol=1e-5
    )


def test_a_text_said_twice_is_pooled_where_it_is_said_again(decoder: Decoder) -> None:
    folder = decoder()
    made = encoder(folder, pooling="mean", passage_template="{text} . {text} :")
    expected = states(folder, ids_of("a book . a book :"))[4:6].mean(0)
    np.testing.assert_allclose(made.encode_passages(["a book"]), unit([expected]), atol=1e-5)


def test_instructions_go_where_the_template_says(decoder: Decoder) -> None:
    folder = decoder()
    plain = encoder(folder)
    both = [WORDS[29], "find : the book . a"]
    expected = unit([states(folder, ids_of(text))[-1] for text in both])
    made = encoder(folder, query_template="{instruction} : {text} . a")
    found = made.encode_queries(["the", "the book"], instructions=["", "find"])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    usual = encoder(folder, instruction="find").encode_queries(["the book"])
    said = states(folder, ids_of("Instruct : find Query : the book"))[-1]
    np.testing.assert_allclose(usual, unit([said]), atol=1e-5)
    np.testing.assert_allclose(
        encoder(folder, instruction="find").encode_passages(["the book"]),
        plain.encode_passages(["the book"]),
    )


def test_templates_are_filled_as_written() -> None:
    assert fill("{{text}}", "x{text}") == ("{x{text}}", [(1, 8)])
    whole, places = fill(ECHO, "ab")
    assert [whole[start:end] for start, end in places] == ["ab", "ab"]
    assert fill(ONE_WORD, "ab")[0] == 'This sentence: "ab" means in one word: "'
    assert query_template(None, "") == "{text}"
    assert query_template("{text} {instruction}", "only facts") == "{text} only facts"
    assert query_template("query: {text}", "") == "query: {text}"
    assert query_template(None, "{text}").count("{text}") == 1
    with pytest.raises(UsageError, match=r"no place for one.*\{instruction\}"):
        query_template("query: {text}", "only facts")


def test_too_long_texts_lose_their_end_and_not_the_template(decoder: Decoder) -> None:
    folder = decoder()
    options: dict[str, Any] = {"passage_template": "of : {text} means :", "eos": True}
    made = encoder(folder, max_length=8, **options)
    found = made.encode_passages(["a b", "a b c", "a b z z z", "a"])
    assert (made.encoded, made.truncated) == (4, 2)
    kept = encoder(folder, **options).encode_passages(["a b", "a b", "a b", "a"])
    np.testing.assert_allclose(found, kept, atol=1e-5)
    twice = encoder(folder, max_length=7, passage_template="{text} . {text}", pooling="mean")
    cut = twice.encode_passages(["a b c d e"])
    whole = states(folder, ids_of("a b . a b"))[4:6].mean(0)
    np.testing.assert_allclose(cut, unit([whole]), atol=1e-5)
    bare = encoder(folder, max_length=3, passage_template="the of : {text} means :")
    expected = states(folder, [*ids_of("of means :", start=False)])
    assert bare.encode_passages(["a b"]).shape == expected[-1:].shape
    assert bare.truncated == 1


# --- token prepending


def test_prepending_shows_the_last_state_to_the_sentence(decoder: Decoder) -> None:
    """Layer by layer on one text, by the parts of a Llama."""
    folder, ids = decoder(), ids_of("of : a book means :")
    model, place = transformer(folder), 3
    ids.insert(place, 0)
    at = torch.arange(len(ids))[None]
    mask = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()[None, None]
    with torch.inference_mode():
        x = model.embed_tokens(torch.tensor([ids]))
        x[0, place] = torch.from_numpy(np.random.default_rng(0).standard_normal(WIDTH))
        turns = model.rotary_emb(x, at)
        for number, layer in enumerate(model.layers):
            if number in (1, 2):
                x[0, place] = x[0, -1]
            x = layer(x, attention_mask=mask, position_embeddings=turns, position_ids=at)
        x = model.norm(x)[0]
    options: dict[str, Any] = {"passage_template": "of : {text} means :", "prepend_layers": 2}
    texts = ["a book", "the library of a b c d", "a book"]
    for pooling, expected in (("last", x[-1]), ("mean", x[4:6].mean(0))):
        made = encoder(folder, pooling=pooling, **options)
        found = made.encode_passages(texts)
        np.testing.assert_allclose(found[[0, 2]], unit([expected] * 2), atol=1e-5)
        np.testing.assert_allclose(made.encode_passages(texts[1:2]), found[1:2], atol=1e-5)
    whole = encoder(folder, pooling="mean", pool_template=True, **options)
    rows = x[[0, 1, 2, 4, 5, 6, 7]].mean(0)
    np.testing.assert_allclose(whole.encode_passages(["a book"]), unit([rows]), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_with_prepending_the_first_token_depends_on_the_last(decoder: Decoder, family: str) -> None:
    made = encoder(decoder(family))._decoder
    given = [np.array(ids, dtype=np.int32) for ids in ([1, 0, 5, 7], [1, 0, 5, 9])]
    states = made.hidden(given, [1, 1], Pass(prepend_layers=1))
    assert (states[0, 2] - states[1, 2]).abs().max() > 1e-4
    torch.testing.assert_close(states[0, 0], states[1, 0], atol=1e-6, rtol=0)


# --- batches, odd texts


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bidirectional": True, "pooling": "mean"},
        {"prepend_layers": 2, "passage_template": ONE_WORD},
        {"pooling": "weighted-mean", "passage_template": ECHO, "layers": 2},
    ],
)
def test_a_text_gets_its_vector_whatever_stands_beside_it(
    decoder: Decoder, options: dict[str, Any]
) -> None:
    made = encoder(decoder("Qwen3"), **options)
    texts = [f"{'book ' * (n % 17)}of {'a ' * (n % 5)} the" for n in range(120)] + ["", " "]
    done: list[int] = []
    together = made.encode_passages(texts, progress=done.append)
    assert sum(done) == len(texts) == made.encoded
    alone = np.concatenate([made.encode_passages([text]) for text in texts[::9]])
    np.testing.assert_allclose(alone, together[::9], atol=1e-5)
    assert np.isfinite(together).all()
    assert made.encode_passages([]).shape == (0, WIDTH)


def test_a_text_without_any_token_still_has_a_vector(decoder: Decoder) -> None:
    for pooling in ("last", "mean"):
        found = encoder(decoder(start=False), pooling=pooling).encode_passages(["", "a"])
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_weights_sum_to_one() -> None:
    text = Prompted(np.zeros(6, np.int32), np.array([3, 4]), placeholder=2)
    for pooling, whole, places, weights in (
        ("last", False, [5], [1]),
        ("mean", False, [3, 4], [1 / 2, 1 / 2]),
        ("mean", True, [0, 1, 3, 4, 5], [0.2] * 5),
        ("weighted-mean", False, [3, 4], [1 / 3, 2 / 3]),
    ):
        found = token_weights(text, pooling, whole)
        assert found[0].tolist() == places
        np.testing.assert_allclose(found[1], weights, rtol=1e-6)


def test_a_model_is_loaded_in_silence(decoder: Decoder, capfd: pytest.CaptureFixture[str]) -> None:
    folder = decoder()
    capfd.readouterr()
    encoder(folder).encode_queries(["a"])
    assert capfd.readouterr() == ("", "")


# --- late chunking


@pytest.mark.parametrize("bidirectional", [False, True])
def test_chunks_are_read_in_their_document(decoder: Decoder, bidirectional: bool) -> None:
    folder = decoder()
    made = encoder(
        folder,
        pooling="mean",
        late_chunking=True,
        bidirectional=bidirectional,
        passage_template="sentence : {text}",
    )
    document = ChunkedText("the book . a library of é", [(0, 10), (11, 25)], title="find")
    whole = states(folder, ids_of(f"sentence : find {document.text}"), both=bidirectional)
    expected = unit([whole[4:7].mean(0), whole[7:11].mean(0)])
    other = ChunkedText("a", [(0, 1)])
    found = made.encode_documents([other, document, other])
    np.testing.assert_allclose(found[1:3], expected, atol=1e-5)
    np.testing.assert_allclose(made.encode_passages(["a"]), found[:1], atol=1e-5)


# --- fingerprints, refusals, which encoder


def test_every_setting_is_told_apart_and_comes_back(decoder: Decoder) -> None:
    folder = decoder()
    bare = encoder(folder, pooling="mean", max_length=60)
    changes: dict[str, Any] = {
        "pooling": "last",
        "pool_template": True,
        "bidirectional": True,
        "query_template": "a {text}",
        "passage_template": "a {text}",
        "instruction": "find",
        "eos": True,
        "prepend_layers": 1,
        "layers": 2,
        "final_norm": False,
        "dimensions": 5,
        "late_chunking": True,
        "prepend": "none",
        "normalize": False,
        "max_length": 50,
    }
    for name, value in changes.items():
        made = encoder(folder, **{"pooling": "mean", "max_length": 60, name: value})
        again = load_encoder(json.loads(json.dumps(made.fingerprint.settings)))
        check_encoder(again, made.fingerprint, canary(made), name="dense")
        with pytest.raises(Mismatch, match=name):
            check_encoder(made, bare.fingerprint, name="dense")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pooling": "max"}, "pooling='max'.*weighted-mean"),
        ({"passage_template": "the"}, "has 0 places for the text"),
        ({"query_template": "{text}{text}{text}"}, "has 3 places"),
        ({"late_chunking": True}, "late_chunking=True with pooling='last'"),
        ({"layers": 5}, "layers=5 .*from 1 to 4"),
        ({"prepend_layers": 4}, "prepend_layers=4 .*from 0 to 3"),
        ({"dimensions": 17}, "dimensions=17 .*from 1 to 16"),
        ({"max_length": 2}, "max_length=2"),
        ({"dtype": "int8"}, "dtype='int8'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    decoder: Decoder, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        encoder(decoder(), **options).encode_passages(["a"])


def test_weights_that_are_missing_are_not_made_up(decoder: Decoder, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(decoder(), tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.self_attn.q_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"no weights for layers.1.self_attn.q_proj"):
        encoder(folder).encode_queries(["a"])


def test_the_folder_says_which_encoder_it_is_for(
    decoder: Decoder, make_bert: Callable[..., Path]
) -> None:
    bert, bare = make_bert(), decoder()
    assert type(open_encoder(str(bare))) is DecoderEncoder
    assert type(open_encoder(str(decoder("GPT2")), pooling="mean")) is DecoderEncoder
    assert type(open_encoder(str(bert), layers=1)) is BiEncoder
    assert type(open_encoder()) is BiEncoder
    assert type(open_encoder("hashing", dimensions=64)) is HashingEncoder
    assert type(open_encoder(str(bare), kind="bi-encoder")) is BiEncoder


def test_options_of_another_encoder_are_refused(
    decoder: Decoder, make_bert: Callable[..., Path]
) -> None:
    with pytest.raises(UsageError, match="bi-encoder encoder has no option 'pooling'.*'decoder'"):
        open_encoder(str(make_bert()), pooling="last")
    with pytest.raises(UsageError, match="decoder encoder has no option 'query_prompt'"):
        open_encoder(str(decoder()), query_prompt="a")
    with pytest.raises(UsageError, match="kind='sparse'.*Use one of auto"):
        open_encoder(kind="sparse")
    with pytest.raises(UsageError, match="no option 'seeds'.*there are"):
        open_encoder("hashing", seeds=1)
