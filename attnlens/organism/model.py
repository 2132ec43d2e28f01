"""The organism's body: an ordinary Qwen3-ASR of transformers at a size of choice, with its front end and its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlens.models.qwen3_asr import Qwen3AsrFrontEnd
from attnlens.organism.tokenizer import END, make_tokenizer

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Size", "make_front_end", "make_model", "save_model"]

HEAD = 32


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the organism is."""

    width: int = 128
    layers: int = 4
    heads: int = 4
    encoder_width: int = 128
    encoder_layers: int = 3
    encoder_heads: int = 4
    channels: int = 32
    mels: int = 80


def make_front_end(size: Size | None = None) -> Qwen3AsrFrontEnd:
    """Return tokenizer, extractor and configuration, as the wrapper of the family takes them.

    >>> front = make_front_end()
    >>> front.audio_positions(16_000), len(front.tokenise("ka to", kind="content"))
    (13, 5)
    """
    from transformers import Qwen3ASRConfig
    from transformers.models.qwen3_asr.feature_extraction_qwen3_asr import Qwen3ASRFeatureExtractor

    size = size or Size()
    tokenizer = make_tokenizer()
    end = tokenizer.convert_tokens_to_ids(END)
    config = Qwen3ASRConfig(
        audio_config={
            "model_type": "qwen3_asr_encoder",
            "num_mel_bins": size.mels,
            "encoder_layers": size.encoder_layers,
            "encoder_attention_heads": size.encoder_heads,
            "encoder_ffn_dim": 3 * size.encoder_width,
            "d_model": size.encoder_width,
            "output_dim": size.width,
            "downsample_hidden_size": size.channels,
            # The class hard-codes 13 positions a window, which is what 50 gives.
            "n_window": 50,
            # One window over the whole clip: our clips are short, and a border inside a word would be a fault.
            "n_window_infer": 3000,
        },
        text_config={
            "model_type": "qwen3",
            "vocab_size": len(tokenizer),
            "hidden_size": size.width,
            "intermediate_size": 3 * size.width,
            "num_hidden_layers": size.layers,
            "num_attention_heads": size.heads,
            "num_key_value_heads": size.heads,
            "head_dim": HEAD,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
            "tie_word_embeddings": False,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": end,
            "bos_token_id": None,
        },
        audio_token_id=tokenizer.convert_tokens_to_ids("<|audio_pad|>"),
        # Timestamps are a feature of the original that the organism does not have.
        timestamp_token_id=len(tokenizer) + 1,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=end,
        tie_word_embeddings=False,
    )
    extractor = Qwen3ASRFeatureExtractor(feature_size=size.mels, n_window=50)
    return Qwen3AsrFrontEnd(tokenizer, extractor, config)


def make_model(front: Qwen3AsrFrontEnd, *, seed: int) -> Any:
    """Return an untrained organism; the global random state stays as it was."""
    import torch
    from transformers import Qwen3ASRForConditionalGeneration

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ASRForConditionalGeneration._from_config(front.config)
        decoder = model.model.language_model
        with torch.no_grad():
            for module in decoder.layers.modules():
                if isinstance(module, torch.nn.Linear):
                    module.weight.normal_(std=0.08)
            # Characters far apart from the start: copying them is the whole task.
            decoder.embed_tokens.weight.normal_(std=0.5)
            # What reads a character begins as what writes it: copying needs no dictionary then.
            model.lm_head.weight.copy_(0.1 * decoder.embed_tokens.weight)
    return model.float()


def save_model(model: nn.Module, front: Qwen3AsrFrontEnd, folder: Path) -> None:
    """Write a checkpoint folder in half precision that ``attnlens.load`` and transformers read."""
    import copy

    half: Any = copy.deepcopy(model).to("cpu").half()
    half.generation_config.eos_token_id = front.tokenizer.convert_tokens_to_ids(END)
    half.generation_config.pad_token_id = front.tokenizer.pad_token_id
    half.save_pretrained(folder)
    # Half the bytes on disk, but read in full precision unless told otherwise: a CPU is no faster in half.
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for part in (config, config["audio_config"], config["text_config"]):
        part["dtype"] = "float32"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    front.tokenizer.save_pretrained(folder)
    front.extractor.save_pretrained(folder)
