"""CTC checkpoints: beginning a training from one or from nothing, and writing what was trained."""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path
from typing import Any, Literal, get_args

from attnlens.asr.acoustic import CtcModel
from attnlens.asr.ctc import CtcNet
from attnlens.asr.load_acoustic import load_acoustic
from attnlens.asr.vocabulary import DELIMITER, SPECIALS, Vocabulary
from attnlens.errors import BadInput, UnknownName, UnsupportedModel, listing

__all__ = ["Head", "Trained", "begin", "save"]

Trained = Literal["all", "adapter", "head"]
Head = Literal["new", "shared"]
_SMALL = {
    "hidden_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 192,
    "conv_depthwise_kernel_size": 15,
    "left_max_position_embeddings": 48,
    "right_max_position_embeddings": 48,
}
_HEADS = ("lm_head", "ctc_head")


def begin(
    model: str | None,
    vocabulary: Vocabulary,
    *,
    size: dict[str, Any] | None,
    trained: Trained,
    device: str,
    seed: int,
    head: Head = "new",
) -> CtcNet:
    """Return a model with a head for a vocabulary, the weights that are trained marked as such.

    The head is drawn anew; with ``shared`` the rows of characters that the old vocabulary has too are kept.
    """
    import torch

    if trained not in get_args(Trained):
        raise UnknownName.among("choice of weights to train", trained, get_args(Trained))
    if head not in get_args(Head):
        raise UnknownName.among("kind of head", head, get_args(Head))
    if head == "shared" and model is None:
        raise BadInput("there is no head to share rows of", given="head: shared", fix="name a `model` to begin from")
    if model is not None and size:
        raise BadInput("a size is given for a model that has one", given=size, fix="leave out `size` or `model`")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made, extractor = _fresh(vocabulary, dict(size or {})) if model is None else _pretrained(model, vocabulary)
        if trained == "adapter":
            _add_adapters(made)
    if head == "shared" and model is not None:
        _share_head(made, vocabulary, model)
    made.config.bos_token_id = made.config.eos_token_id = None
    # The built-in masking draws from a generator that a resumed run does not know; clips are changed before.
    made.config.apply_spec_augment = False
    _choose(made, trained)
    return CtcNet(made.to(device), extractor, vocabulary)


def save(net: CtcNet, folder: Path, *, dtype: Literal["float32", "float16"]) -> None:
    """Write weights, configuration, extractor and vocabulary as transformers reads them."""
    import torch

    copied: Any = copy.deepcopy(net.model).to("cpu", getattr(torch, dtype))
    copied.save_pretrained(folder)
    net.extractor.save_pretrained(folder)
    _tokenizer(net.vocabulary).save_pretrained(folder)


def _tokenizer(vocabulary: Vocabulary) -> Any:
    from transformers import Wav2Vec2CTCTokenizer

    names = [*SPECIALS, *vocabulary.pieces[len(SPECIALS) :]]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocab.json"
        ids = {DELIMITER if name == " " else name: number for number, name in enumerate(names)}
        path.write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
        return Wav2Vec2CTCTokenizer(
            str(path), pad_token=SPECIALS[0], unk_token=SPECIALS[1], bos_token=None, eos_token=None
        )


def _head(vocabulary: Vocabulary) -> dict[str, Any]:
    return {"vocab_size": len(vocabulary), "pad_token_id": vocabulary.blank}


def _fresh(vocabulary: Vocabulary, size: dict[str, Any]) -> tuple[Any, Any]:
    from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig, Wav2Vec2BertForCTC

    stride, mels = int(size.pop("stride", 2)), 80
    unknown = sorted(set(size) - set(Wav2Vec2BertConfig().to_dict()))
    if unknown:
        raise UnknownName.among("field of size:", unknown[0], sorted({*Wav2Vec2BertConfig().to_dict(), "stride"}))
    config = Wav2Vec2BertConfig(
        **{**_SMALL, "layerdrop": 0.0, **size}, feature_projection_input_dim=stride * mels, **_head(vocabulary)
    )
    return Wav2Vec2BertForCTC(config), SeamlessM4TFeatureExtractor(stride=stride)


def _pretrained(model: str, vocabulary: Vocabulary) -> tuple[Any, Any]:
    from transformers import AutoFeatureExtractor, AutoModelForCTC

    local = {"local_files_only": True} if Path(model).exists() else {}
    try:
        extractor = AutoFeatureExtractor.from_pretrained(model, trust_remote_code=False, **local)
        made, report = AutoModelForCTC.from_pretrained(
            model,
            dtype="float32",
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **_head(vocabulary),
            **local,
        )
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise BadInput(
            f"{model} is nothing to begin a CTC model from: {str(error).strip().splitlines()[0]}",
            fix="pass a folder or name with config.json, preprocessor_config.json and *.safetensors; where there is "
            "only a *.bin, load it once with transformers and write it with save_pretrained",
        ) from error
    lost = [key for key in report["missing_keys"] if not key.startswith((*_HEADS, *_unused(made)))]
    if lost:
        raise BadInput(
            f"{model} lacks {len(lost)} weights of {type(made).__name__}",
            present=f"missing: {listing(sorted(lost), at_most=4)}",
            fix="begin from a complete checkpoint",
        )
    _renew_head(made)
    return made, extractor


def _unused(model: Any) -> tuple[str, ...]:
    """Return prefixes of weights that play no part in recognition: what masks are filled with in pretraining."""
    return (f"{model.base_model_prefix}.masked_spec_embed",)


def _renew_head(model: Any) -> None:
    """Draw the head anew even where an old one fits by chance: its outputs meant other characters."""
    import torch

    for layer in _head_layers(model):
        torch.nn.init.normal_(layer.weight, std=0.02)
        if layer.bias is not None:
            torch.nn.init.zeros_(layer.bias)


def _head_layers(model: Any) -> list[Any]:
    """Return what makes outputs of a model's states, by whatever name its class has for it."""
    import torch

    heads = [getattr(model, name) for name in _HEADS if hasattr(model, name)]
    return [one for head in heads for one in head.modules() if isinstance(one, torch.nn.Linear | torch.nn.Conv1d)]


def _share_head(made: Any, vocabulary: Vocabulary, model: str) -> None:
    """Copy the rows of the old head whose characters, or blank, the new vocabulary has too."""
    import torch

    before = load_acoustic(model)
    old = before.net if isinstance(before, CtcModel) else None
    places = {piece: place for place, piece in enumerate(old.vocabulary.pieces) if piece} if old else {}
    pairs = [(place, places[piece]) for place, piece in enumerate(vocabulary.pieces) if piece in places]
    if old is None or all(vocabulary.pieces[place] == " " for place, _ in pairs):
        raise BadInput(
            f"no character of the corpus is in the vocabulary of {model}",
            given="head: shared",
            present=listing(sorted(places), at_most=12),
            fix="leave out `head`, or begin from a model of the same script",
        )
    pairs.append((vocabulary.blank, old.vocabulary.blank))
    rows, kept = ([pair[side] for pair in pairs] for side in (0, 1))
    with torch.no_grad():
        for layer, source in zip(_head_layers(made), _head_layers(old.model), strict=True):
            if len(layer.weight) == len(vocabulary):
                layer.weight[rows] = source.weight[kept]
                if layer.bias is not None:
                    layer.bias[rows] = source.bias[kept]


def _add_adapters(model: Any) -> None:
    if getattr(model.config, "adapter_attn_dim", None) is None or not hasattr(model, "init_adapter_layers"):
        raise UnsupportedModel(
            "the model has no place for adapters of a language",
            given=type(model).__name__,
            fix="pass trained='all' or 'head', or begin from an MMS model with adapters",
        )
    model.init_adapter_layers()


def _choose(model: Any, trained: Trained) -> None:
    if trained == "all":
        if hasattr(model, "freeze_feature_encoder"):
            model.freeze_feature_encoder()
        return
    model.requires_grad_(False)
    for name in _HEADS:
        if hasattr(model, name):
            getattr(model, name).requires_grad_(True)
    if trained == "adapter":
        for parameter in model._get_adapters().values():
            parameter.requires_grad_(True)
