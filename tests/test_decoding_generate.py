"""The constraint inside transformers' own `generate`, and models that come from folders."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragstone.errors import InputError, UsageError
from ragstone.models.decoding import (
    BeamSettings,
    ConstrainedLogits,
    Spelling,
    TrieConstraint,
    beams,
    load_language_model,
)

from . import tiny_writers as tiny
from .decoders import make_decoder

TITLES = [[5, 6, 7], [5, 6], [8], [5, 9, 9, 9], [30, 31], [12, 13, 14]]
PROMPTS = np.array([[0, 0, 0, 11, 12], [21, 22, 23, 24, 25], [0, 0, 33, 4, 15]])


def generated(family: str, **how: Any) -> tuple[Any, list[list[int]]]:
    """The model, and what it wrote after the prompts, which are padded on the left."""
    import torch

    model = tiny.writer(family)
    begun = 1 if model.reads_apart else PROMPTS.shape[1]
    processor = how.pop("processor", None) or [
        ConstrainedLogits(TrieConstraint(TITLES, end=2), begun, Spelling(eos=2))
    ]
    ids = torch.from_numpy(PROMPTS)
    torch.manual_seed(0)
    found = model.model.generate(
        input_ids=ids,
        attention_mask=(ids > 0).long(),
        max_new_tokens=6,
        logits_processor=processor,
        pad_token_id=0,
        **how,
    )
    return model, found[:, begun:].tolist()


def until_end(tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(2)]


@pytest.mark.parametrize("family", tiny.CAUSAL + tiny.APART)
@pytest.mark.parametrize(
    "how",
    [
        {"do_sample": False},
        {"do_sample": True},
        {"do_sample": False, "num_beams": 3, "num_return_sequences": 3},
    ],
    ids=["greedy", "sampled", "beams"],
)
def test_only_what_is_allowed_is_generated(family: str, how: dict[str, Any]) -> None:
    _, found = generated(family, **how)
    assert all(until_end(tokens) in TITLES for tokens in found)


def test_equals_the_slow_processor_of_transformers() -> None:
    from transformers import PrefixConstrainedLogitsProcessor

    begun, trie = PROMPTS.shape[1], TrieConstraint(TITLES, end=2)

    def follow(row: int, ids: Any) -> list[int]:
        written = ids[begun:].tolist()
        tokens = trie.continuations(np.array([written], dtype=np.int64)).tokens.tolist()
        return [2] if 2 in written else tokens

    how = {"do_sample": False, "num_beams": 4, "num_return_sequences": 4}
    slow = [PrefixConstrainedLogitsProcessor(follow, num_beams=4)]
    assert generated("Llama", **how)[1] == generated("Llama", processor=slow, **how)[1]


@pytest.mark.parametrize("family", ["Llama", "T5"])
def test_greedy_generation_is_a_beam_of_one(family: str) -> None:
    model, found = generated(family, do_sample=False)
    prompts = [row if model.reads_apart else row[row > 0] for row in PROMPTS]
    prompts = [row[row > 0] for row in prompts]
    how = BeamSettings(beam=1, max_length=6, spelling=Spelling(eos=2))
    trie = TrieConstraint(TITLES, end=2)
    for tokens, kept in zip(found, beams(model, prompts, [trie] * 3, how), strict=True):
        assert tuple(until_end(tokens)) in {p.tokens for p in kept if p.complete}


def test_a_row_that_can_go_nowhere_ends() -> None:
    import torch

    corpus = tiny.Corpus([[4, 5]])
    processor = ConstrainedLogits(corpus, 1, Spelling(eos=2))
    masked = processor(torch.tensor([[1, 4, 5], [1, 7, 7], [1, 2, 0]]), torch.zeros(3, 40))
    assert [row.nonzero().ravel().tolist() for row in (masked == 0)] == [[2], [2], [2]]
    first = processor(torch.tensor([[1], [1]]), torch.zeros(2, 40))
    assert [row.nonzero().ravel().tolist() for row in (first == 0)] == [[4, 5], [4, 5]]
    scores = torch.zeros(1, 40)
    assert processor(torch.zeros((1, 0), dtype=torch.int64), scores) is scores
    with pytest.raises(UsageError, match="no token that completes"):
        ConstrainedLogits(corpus, 1, Spelling())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_from_a_folder(tmp_path: Path, dtype: str) -> None:
    import torch

    model = load_language_model(str(make_decoder(tmp_path)), dtype=dtype)
    assert model.model.dtype == getattr(torch, dtype)
    assert not model.reads_apart and model.end == 2 and model.decoder_start() == ()
    prompt = np.array(model.tokenizer("the book of")["input_ids"])
    corpus = tiny.Corpus([[29, 30, 31, 32]])
    (found,) = beams(model, [prompt], [corpus], BeamSettings(beam=2, max_length=3))
    assert {p.tokens for p in found} >= {(29,), (30,)}


def test_a_model_with_an_encoder_from_a_folder(tmp_path: Path) -> None:
    make_decoder(tmp_path)  # for its tokenizer
    tiny.module("Bart").save_pretrained(tmp_path)
    model = load_language_model(str(tmp_path))
    assert model.reads_apart and model.decoder_start() == (2,)
    assert model.vocabulary == tiny.VOCABULARY
    model.model.generation_config.forced_bos_token_id = 1
    assert model.decoder_start() == (2, 1)


def test_the_page_about_decoding_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_decoder(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parent.parent / "docs" / "decoding.md").read_text(encoding="utf-8")
    code = "".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    code = code.replace("Qwen/Qwen2.5-0.5B", "model")
    exec(compile(code, "decoding.md", "exec"), {})
    assert capsys.readouterr().out


def test_models_that_are_refused(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = make_decoder(tmp_path / "model")
    with pytest.raises(UsageError, match="float64"):
        load_language_model(str(folder), dtype="float64")
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="no weights for model.norm.weight"):
        load_language_model(str(folder))
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="not in safetensors"):
        load_language_model(str(folder))


def test_a_decoder_without_a_beginning() -> None:
    model = tiny.writer("T5")
    model.model.config.decoder_start_token_id = None
    model.model.generation_config.decoder_start_token_id = None
    with pytest.raises(UsageError, match="Set `decoder_start`"):
        beams(model, [], [], BeamSettings())
