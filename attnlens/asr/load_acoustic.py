"""From a name to an acoustic model: any CTC model of transformers, or Whisper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlens.asr.acoustic import CtcModel
from attnlens.asr.ctc import CtcNet
from attnlens.asr.vocabulary import Vocabulary
from attnlens.asr.whisper import WhisperModel
from attnlens.data.audio import RATE
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput, UnsupportedModel, listing
from attnlens.models.memory import asking

if TYPE_CHECKING:
    import torch

__all__ = ["load_acoustic", "longest_clip", "require_short"]


def load_acoustic(
    name: str | Path,
    *,
    language: str | None = None,
    dtype: str | torch.dtype = "float32",
    device: str = "cpu",
    revision: str | None = None,
    window: float = 30.0,
    overlap: float = 4.0,
    cache: str | Path | None = None,
) -> CtcModel | WhisperModel:
    """Load an acoustic model from a checkpoint folder or a hub name.

    Weights are read as safetensors only, and code that comes with a checkpoint is never run. A folder is read as it
    is; a hub name may use the network.

    Parameters
    ----------
    language
        MMS: the adapter to load (``que``). Whisper: the language to transcribe (``en``); None lets it guess.
    window, overlap, cache
        See :class:`attnlens.asr.acoustic.CtcModel`. Whisper reads 30 s and refuses more.

    >>> load_acoustic("./no-such-folder")
    Traceback (most recent call last):
    attnlens.errors.BadInput: there is no acoustic model in ./no-such-folder
      fix:     pass a folder with config.json and *.safetensors, or a hub name such as facebook/mms-1b-all
    """
    name = str(name)
    local = Path(name).exists()
    if not local and (name.startswith((".", "/", "~")) or name.count("/") > 1 or not name):
        raise BadInput(
            f"there is no acoustic model in {name}",
            fix="pass a folder with config.json and *.safetensors, or a hub name such as facebook/mms-1b-all",
        )
    options: dict[str, Any] = {"local_files_only": True} if local else {"revision": revision}
    options["trust_remote_code"] = False
    with asking(f"loading {name}", fix="pass dtype='bfloat16' or another device"):
        made = _load(name, options, dtype=dtype, language=language)
    model, extractor, tokenizer = made
    model.to(device).eval()
    if model.config.model_type == "whisper":
        if cache is not None:
            raise BadInput("Whisper has no frame log-probabilities to keep", given=f"cache={cache}", fix="leave it out")
        return WhisperModel(model, extractor, tokenizer, name=name, language=language)
    size, blank = int(model.config.vocab_size), model.config.pad_token_id
    if blank is None:
        raise UnsupportedModel(f"{name} names no blank", given="pad_token_id: null", fix="set it in config.json")
    vocabulary = Vocabulary.of_tokenizer(tokenizer, blank=int(blank), size=size)
    return CtcModel(CtcNet(model, extractor, vocabulary), name=name, window=window, overlap=overlap, cache=cache)


def longest_clip(name: str | Path) -> float | None:
    """Return the seconds that a model reads at most, None for CTC models: they read long audio in windows.

    Looks at the settings alone, no weights are read.

    >>> from attnlens.organism.shipped import acoustic_folder
    >>> print(longest_clip(acoustic_folder("maori")))
    None
    """
    import transformers

    options: dict[str, Any] = {"local_files_only": True} if Path(name).exists() else {}
    try:
        if transformers.AutoConfig.from_pretrained(name, trust_remote_code=False, **options).model_type != "whisper":
            return None
        extractor: Any = transformers.AutoFeatureExtractor.from_pretrained(name, trust_remote_code=False, **options)
    except (OSError, ValueError):
        # What cannot be read is told by loading it.
        return None
    return float(extractor.n_samples / RATE)


def require_short(name: str | Path, utterances: Sequence[Utterance]) -> None:
    """Refuse clips that a model would refuse, before anything is loaded."""
    longest = longest_clip(name)
    long = [] if longest is None else [one for one in utterances if one.audio.seconds > longest]
    if long:
        raise BadInput(
            "clips are longer than the acoustic model reads",
            given=listing([f"{one.id} ({one.audio.seconds:.1f} s)" for one in long], at_most=6),
            present=f"{name}: {longest:.0f} s",
            fix="cut the recordings at pauses, or use a CTC model, which reads long audio in windows",
        )


def _load(
    name: str, options: dict[str, Any], *, dtype: str | torch.dtype, language: str | None
) -> tuple[Any, Any, Any]:
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CTC_MAPPING_NAMES

    known = dict(MODEL_FOR_CTC_MAPPING_NAMES)
    try:
        config = transformers.AutoConfig.from_pretrained(name, **options)
        kind = config.model_type
        if kind != "whisper" and kind not in known:
            raise UnsupportedModel(
                f"{name} is neither a CTC model nor Whisper",
                given=kind,
                present=listing([*sorted(known), "whisper"]),
                fix="a speech LLM is loaded by attnlens.load",
            )
        loader = transformers.WhisperForConditionalGeneration if kind == "whisper" else transformers.AutoModelForCTC
        model, report = loader.from_pretrained(
            name, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, **options)
        extractor = transformers.AutoFeatureExtractor.from_pretrained(name, **options)
        if language is not None and kind != "whisper":
            _set_language(model, tokenizer, language, options)
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        if isinstance(error, BadInput) or "memory" in str(error):
            raise
        raise BadInput(
            f"{name} does not load as an acoustic model: {str(error).strip().splitlines()[0]}",
            present=", ".join(sorted(one.name for one in Path(name).iterdir())) if Path(name).is_dir() else None,
            fix="it needs config.json, preprocessor_config.json, a tokenizer, and its weights as *.safetensors",
        ) from error
    missing = [key for key in report["missing_keys"] if "masked_spec_embed" not in key]
    if missing:
        # transformers would go on with random numbers in their place.
        raise BadInput(
            f"{name} lacks {len(missing)} weights of {type(model).__name__}",
            present=f"missing: {listing(sorted(missing), at_most=4)}",
            fix="load a checkpoint that was trained to transcribe; `attnlens train` makes one of a pretrained encoder",
        )
    return model, extractor, tokenizer


def _set_language(model: Any, tokenizer: Any, language: str, options: dict[str, Any]) -> None:
    if not (hasattr(model, "load_adapter") and getattr(model.config, "adapter_attn_dim", None)):
        raise BadInput("the model has no adapters of languages", given=f"language={language!r}", fix="leave it out")
    tokenizer.set_target_lang(language)
    kept = {key: value for key, value in options.items() if key != "trust_remote_code"}
    model.load_adapter(language, use_safetensors=True, **kept)
    model.config.vocab_size = model.lm_head.out_features
