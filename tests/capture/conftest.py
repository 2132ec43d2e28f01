"""Small random text models with peaked attention, and the naive n x n attention they are compared with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnlens.capture.sites import Site, Sites

SIZES = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@dataclass
class Small:
    """A model, its sites and what a test needs to run it."""

    model: Any
    sites: Sites
    attn: str

    @property
    def layers(self) -> Any:
        return self.model.model.layers

    def inputs(self, *, lengths: tuple[int, ...] = (40, 29), seed: int = 0) -> dict[str, Tensor]:
        """A left-padded batch."""
        torch.manual_seed(seed)
        n = max(lengths)
        ids = torch.randint(3, 60, (len(lengths), n))
        mask = torch.stack([torch.arange(n) >= n - length for length in lengths]).long()
        return {"input_ids": ids * mask, "attention_mask": mask}

    def use(self, implementation: str) -> None:
        self.model.set_attn_implementation(implementation)

    def logits(self, **inputs: Any) -> Tensor:
        with torch.no_grad():
            found: Tensor = self.model(**inputs, use_cache=False).logits
        return found

    def eager_weights(self, **inputs: Any) -> list[Tensor]:
        """Eager attention's own matrices [B, H, q, k], one per layer."""
        self.use("eager")
        with torch.no_grad():
            found = self.model(**inputs, use_cache=False, output_attentions=True).attentions
        self.use(self.attn)
        return list(found)


def _text(name: str, **changes: Any) -> Small:
    import transformers as t

    torch.manual_seed(0)
    sizes = SIZES | changes
    window = {"sliding_window": 16}
    made: dict[str, Callable[[], Any]] = {
        "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**sizes)),
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**sizes)),
        "mistral": lambda: t.MistralForCausalLM(t.MistralConfig(**(window | sizes))),
        "phi3": lambda: t.Phi3ForCausalLM(t.Phi3Config(**(window | sizes))),
        "gemma2": lambda: t.Gemma2ForCausalLM(t.Gemma2Config(**(window | {"head_dim": 8} | sizes))),
    }
    model = made[name]().eval()
    sharpen(model)
    attn = "eager" if name == "gemma2" else "sdpa"  # sdpa refuses soft caps
    model.set_attn_implementation(attn)
    layers = model.model.layers
    post = [layer.post_attention_layernorm for layer in layers] if name == "gemma2" else []
    sites = Sites.of(
        model.model,
        layers=[layer.self_attn for layer in layers],
        output_projections=[layer.self_attn.o_proj for layer in layers],
        final_norm=model.model.norm,
        unembedding=model.lm_head,
        post_norms=post,
    )
    return Small(model, sites, attn)


def sharpen(model: nn.Module, by: float = 8.0) -> None:
    """Random attention is nearly uniform, and nothing can go wrong with uniform attention."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if any(part in name for part in ("q_proj", "k_proj", "qkv_proj")) and weight.ndim == 2:
                weight.mul_(by)


@pytest.fixture
def small() -> Callable[..., Small]:
    """Make a small text model of a family by name."""
    return _text


@pytest.fixture
def whisper() -> Small:
    import transformers as t

    torch.manual_seed(0)
    config = t.WhisperConfig(
        vocab_size=64,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_source_positions=30,
        max_target_positions=40,
        num_mel_bins=16,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    model = t.WhisperForConditionalGeneration(config).eval()
    sharpen(model, 20.0)
    decoder, encoder = model.model.decoder, model.model.encoder
    sites = Sites.of(
        decoder,
        layers=[layer.self_attn for layer in decoder.layers],
        cross=[layer.encoder_attn for layer in decoder.layers],
        encoder=[layer.self_attn for layer in encoder.layers],
        output_projections={
            "self": [layer.self_attn.out_proj for layer in decoder.layers],
            "cross": [layer.encoder_attn.out_proj for layer in decoder.layers],
            "encoder": [layer.self_attn.out_proj for layer in encoder.layers],
        },
        final_norm=decoder.layer_norm,
        unembedding=model.proj_out,
    )
    return Small(model, sites, "sdpa")


@dataclass
class Naive:
    """Attention from scratch, with matrices: what it saw, and what a test wants changed, per site."""

    sites: Sites
    weights: dict[Site, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    cut: dict[Site, tuple[Tensor, str]] = field(default_factory=dict)
    replace: dict[Site, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    moved: dict[Site, tuple[Tensor, str]] = field(default_factory=dict)

    def __call__(  # noqa: PLR0917 - as transformers calls it
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        softcap: float | None = None,
        **_: Any,
    ) -> tuple[Tensor, Tensor]:
        site = self.sites.find(module)
        assert site is not None
        if site in self.moved:
            order, what = self.moved[site]
            take = order[:, None, :, None]
            key = key.gather(2, take.expand_as(key)) if "k" in what else key
            value = value.gather(2, take.expand_as(value)) if "v" in what else value
        shared = query.shape[1] // key.shape[1]
        keys, values = key.repeat_interleave(shared, 1).float(), value.repeat_interleave(shared, 1).float()
        scores = query.float() @ keys.mT * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        if attention_mask is not None:
            scores = scores + attention_mask[..., : keys.shape[2]].float()
        cut, how = self.cut.get(site, (None, ""))
        if cut is not None and how == "mask":
            scores = scores.masked_fill(cut, -1e30)
        p = scores.softmax(-1)
        if cut is not None:
            p = p.masked_fill(cut, 0.0)
        self.weights[site].append(p)
        output = p @ values
        if site in self.replace:
            output = self.replace[site](output)
        return output.transpose(1, 2).to(query.dtype).contiguous(), p


@pytest.fixture
def naive() -> Iterator[Callable[[Sites], Naive]]:
    """Register the naive attention under the name ``naive``; its function and its masks."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    def make(sites: Sites) -> Naive:
        one = Naive(sites)
        AttentionInterface.register("naive", one)
        AttentionMaskInterface.register("naive", eager_mask)
        return one

    yield make
    AttentionInterface._global_mapping.pop("naive", None)
    AttentionMaskInterface._global_mapping.pop("naive", None)


def _masses(weights: Tensor, groups: Tensor, n_groups: int) -> Tensor:
    spans = torch.stack([groups == group for group in range(n_groups)], -1).float()
    return weights.float() @ spans[:, None, : weights.shape[-1]]


@pytest.fixture
def masses() -> Callable[[Tensor, Tensor, int], Tensor]:
    """Sum attention matrices over groups of keys, by definition."""
    return _masses
