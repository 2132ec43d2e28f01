"""What cannot be read exactly is refused, with the reason, and before anything is computed where that can be known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from attnlens.capture.attention import capture
from attnlens.capture.call import read_call
from attnlens.capture.edits import AblateHeads, Knockout, ShuffleValues
from attnlens.capture.measures import MEASURES
from attnlens.capture.request import Request
from attnlens.capture.sites import Sites
from attnlens.errors import AttnlensError, BadInput, SelfCheckFailed, UnknownName, UnsupportedModel

GROUPS = torch.zeros(1, 40, dtype=torch.long)
SOME = torch.arange(40)[None] > 30
ORDER = torch.arange(40)[None]


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda: Request(groups=GROUPS, n_groups=1, measures=("mas",)), "unknown measure 'mas'"),
        (lambda: Request(groups=GROUPS, n_groups=1, measures=()), "no measure"),
        (lambda: Request(groups=GROUPS, n_groups=1, rows=torch.tensor([], dtype=torch.long)), "no row is selected"),
        (lambda: Request(groups=GROUPS, n_groups=1, rows=torch.tensor([40])), "rows lie outside"),
        (lambda: Request(groups=GROUPS, n_groups=1, rows=torch.tensor([-1])), "rows lie outside"),
        (lambda: Request(groups=GROUPS, n_groups=1, rows=torch.tensor([3, 3])), "selected twice"),
        (lambda: Request(groups=GROUPS, n_groups=1, rows=torch.tensor([1.0])), "rows must be int64"),
        (lambda: Request(groups=GROUPS + 3, n_groups=3), "a group that does not exist"),
        (lambda: Request(groups=GROUPS - 2, n_groups=3), "a group that does not exist"),
        (lambda: Request(groups=GROUPS[0], n_groups=3), "groups must be int64 with 2"),
        (lambda: Request(groups=GROUPS, n_groups=0), "a group that does not exist"),
        (lambda: Request(n_groups=1), "keys of self attention have no labels"),
        (lambda: Request(groups=GROUPS, n_groups=1, kinds=("cross",)), "keys of cross attention have no labels"),
        (lambda: Request(groups=GROUPS, n_groups=1, kinds=("crss",)), "unknown kind"),  # type: ignore[arg-type]
        (lambda: Request(groups=GROUPS, n_groups=1, method="fast"), "unknown method 'fast'"),  # type: ignore[arg-type]
        (lambda: Request(groups=GROUPS, n_groups=1, method="widened", measures=("entropy",)), "the mass alone"),
        (lambda: Request(groups=GROUPS, n_groups=1, chunk=0), "chunk"),
        (lambda: Request(groups=GROUPS, n_groups=1, heads=()), "heads must be different"),
        (lambda: Request(groups=GROUPS, n_groups=1, layers=(1, 1)), "layers must be different"),
        (lambda: Request(groups=GROUPS, n_groups=1, measures=("logit_effect",)), "needs the gold token"),
        (
            lambda: Request(groups=GROUPS, n_groups=1, query_groups=GROUPS, n_query_groups=2),
            "a query group has no rows",
        ),
        (
            lambda: Request(groups=GROUPS, n_groups=1, query_groups=GROUPS, n_query_groups=1, measures=("argmax",)),
            "cannot be averaged",
        ),
        (
            lambda: Request(cross_groups=GROUPS, n_groups=1, kinds=("encoder",), rows=torch.tensor([1])),
            "do not name rows of an encoder",
        ),
        (lambda: Knockout(queries=SOME & False, keys=SOME), "queries select no position"),
        (lambda: Knockout(queries=SOME, keys=SOME[0]), "keys must be boolean"),
        (lambda: Knockout(queries=SOME, keys=SOME, how="drop"), "unknown way to knock out"),  # type: ignore[arg-type]
        (lambda: Knockout(queries=SOME, keys=SOME, layers=()), "layers of an edit"),
        (lambda: AblateHeads(layers=None, heads=(1,), value=torch.zeros(2, 8)), "does not fit its heads"),
        (lambda: AblateHeads(layers=None, heads=(1,), value="mean"), "unknown value"),  # type: ignore[arg-type]
        (lambda: ShuffleValues(layers=None, permutation=ORDER * 0), "not one"),
        (lambda: ShuffleValues(layers=None, permutation=ORDER, what="q"), "unknown thing"),  # type: ignore[arg-type]
        (lambda: Sites.of(nn.Identity()), "no attention module"),
        (lambda: Sites.of(None, layers=[nn.Identity()]), "without the decoder"),
        (lambda: Sites.of(nn.Identity(), layers=[nn.Identity()], output_projections=[nn.Identity()] * 2), "one to one"),
    ],
)
def test_before_any_model_is_there(made: Callable[[], Any], told: str) -> None:
    with pytest.raises(AttnlensError, match=told):
        made()


def test_one_module_for_two_layers() -> None:
    shared = nn.Identity()
    with pytest.raises(BadInput, match="stands for two layers"):
        Sites.of(nn.Identity(), layers=[shared, shared])


@pytest.mark.parametrize(
    ("asked", "edits", "told"),
    [
        (Request(groups=GROUPS, n_groups=1, layers=(1, 3)), [], "no such self layer"),
        (Request(cross_groups=GROUPS, n_groups=1, kinds=("cross",)), [], "no cross attention"),
        (None, [Knockout(queries=SOME, keys=SOME, layers=(7,))], "no such self layer"),
        (None, [Knockout(queries=SOME, keys=SOME, kind="cross")], "no such cross layer"),
    ],
)
def test_before_the_model_is_run(small: Any, asked: Request | None, edits: list[Any], told: str) -> None:
    one = small("qwen2")
    with pytest.raises(BadInput, match=told), capture(one.sites, asked, edits):
        pytest.fail("the block was entered")


def test_contributions_without_projections(small: Any) -> None:
    one = small("qwen2")
    bare = Sites.of(one.sites.decoder, layers=[layer.self_attn for layer in one.layers])
    for measure, told in (("contribution", "need the output projection"), ("logit_effect", "need the output")):
        asked = Request(
            groups=GROUPS, n_groups=1, measures=(measure,), rows=torch.tensor([5]), gold=torch.tensor([[3]])
        )
        with pytest.raises(BadInput, match=told), capture(bare, asked):
            pass


@pytest.mark.parametrize(
    ("asked", "edits", "told"),
    [
        (Request(groups=GROUPS, n_groups=1, heads=(8,)), [], "no such head to read"),
        (Request(groups=GROUPS.repeat(3, 1), n_groups=1), [], "another batch size"),
        (None, [Knockout(queries=SOME, keys=SOME, heads=(8,))], "no such head to edit"),
        (None, [AblateHeads(layers=None, heads=(9,))], "no such head to edit"),
        (None, [AblateHeads(layers=None, heads=(1,), value=torch.zeros(1, 9))], "another head size"),
        (None, [AblateHeads(layers=None, heads=(1,), value=torch.zeros(1, 20, 1, 8))], "no value for some positions"),
        (None, [ShuffleValues(layers=None, permutation=ORDER, heads=(2,))], "no such key/value head"),
        (None, [ShuffleValues(layers=None, permutation=torch.arange(50).flip(0)[None])], "outside those"),
        (None, [Knockout(queries=SOME.repeat(3, 1), keys=SOME)], "another batch size"),
    ],
)
def test_at_the_first_layer(small: Any, asked: Request | None, edits: list[Any], told: str) -> None:
    one = small("qwen2")
    with pytest.raises(BadInput, match=told), capture(one.sites, asked, edits):
        one.logits(**one.inputs())


def test_records_that_hold_nothing(small: Any) -> None:
    one = small("qwen2")
    with capture(one.sites, Request(groups=GROUPS, n_groups=1)) as record:
        pass
    with pytest.raises(BadInput, match="nothing was captured"):
        record.stacked("mass")
    with capture(one.sites) as record:
        one.logits(**one.inputs())
    with pytest.raises(BadInput, match="asked to read nothing"):
        record.stacked("mass")
    with capture(one.sites, Request(groups=GROUPS, n_groups=1)) as record:
        one.logits(**one.inputs())
    with pytest.raises(UnknownName, match="measure of this record 'max'"):
        record.stacked("max")
    with pytest.raises(UnknownName, match="unknown measure 'mox'"):
        record.stacked("mox")
    with pytest.raises(UnknownName, match="kind of this record"):
        record.stacked("mass", "cross")


def test_rows_beyond_the_forward(small: Any) -> None:
    one = small("qwen2")
    groups = torch.zeros(1, 60, dtype=torch.long)
    with capture(one.sites, Request(groups=groups, n_groups=1, rows=torch.tensor([30, 55]))) as record:
        one.logits(**one.inputs())
    with pytest.raises(BadInput, match="never computed") as refusal:
        record.stacked("mass")
    assert "55" in str(refusal.value)


def test_two_forwards_in_one_capture(small: Any) -> None:
    one = small("qwen2")
    with capture(one.sites, Request(groups=GROUPS, n_groups=1)):
        one.logits(**one.inputs())
        with pytest.raises(BadInput, match="computed twice"):
            one.logits(**one.inputs())


def test_attention_that_bypasses_the_interface(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = small("qwen2")

    def own(hidden_states: torch.Tensor, **_: Any) -> tuple[torch.Tensor, None]:
        return hidden_states, None

    for layer in (0, 2):
        monkeypatch.setattr(one.layers[layer].self_attn, "forward", own)
    with (
        pytest.raises(UnsupportedModel, match=r"layers 0, 2 \(self\) were never reached"),
        capture(one.sites, Request(groups=GROUPS, n_groups=1)),
    ):
        one.logits(**one.inputs())
    with (
        pytest.raises(UnsupportedModel, match="never reached"),
        capture(one.sites, None, [AblateHeads(layers=(0,), heads=(1,))]),
    ):
        one.logits(**one.inputs())
    with capture(one.sites, Request(groups=GROUPS, n_groups=1, layers=(1,))) as record:
        one.logits(**one.inputs())
    assert record.stacked("mass").shape[0] == 1


def test_layers_reached_without_their_decoder(small: Any) -> None:
    one, two = small("qwen2"), small("qwen2")
    sites = Sites.of(two.sites.decoder, layers=[layer.self_attn for layer in one.layers])
    with (
        pytest.raises(UnsupportedModel, match="without its decoder's forward"),
        capture(sites, Request(groups=GROUPS, n_groups=1)),
    ):
        one.logits(**one.inputs())


def test_sink_logits(small: Any) -> None:
    import transformers

    torch.manual_seed(0)
    config = transformers.GptOssConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_local_experts=2,
        num_experts_per_tok=1,
        pad_token_id=0,
    )
    model = transformers.GptOssForCausalLM(config).eval()
    model.set_attn_implementation("eager")
    sites = Sites.of(model.model, layers=[layer.self_attn for layer in model.model.layers])
    with (
        pytest.raises(SelfCheckFailed, match="do not sum to 1: it adds a sink"),
        torch.no_grad(),
        capture(sites, Request(groups=GROUPS, n_groups=1)),
    ):
        model(torch.randint(3, 60, (1, 40)))


@pytest.mark.parametrize("fault", ["another bias", "another mask", "another scale", "dropout"])
def test_weights_that_do_not_explain_the_output(small: Any, fault: str) -> None:
    """Whatever an implementation adds on its own is found out by its output."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask
    from transformers.models.qwen2.modeling_qwen2 import eager_attention_forward

    def odd(module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
        if fault == "another bias":
            mask = mask + torch.linspace(0, 3, mask.shape[-1])
        elif fault == "another mask":
            mask = mask.masked_fill(torch.arange(mask.shape[-1]) < 4, -1e30)
        elif fault == "another scale":
            options["scaling"] = options["scaling"] * 0.5
        else:
            value = value * (torch.rand(value.shape[2], 1) > 0.3)
        return eager_attention_forward(module, query, key, value, mask, **options)

    one = small("qwen2")
    AttentionInterface.register("odd", odd)
    AttentionMaskInterface.register("odd", eager_mask)
    try:
        one.use("odd")
        with (
            pytest.raises(SelfCheckFailed, match="do not explain the attention output at layer 0"),
            capture(one.sites, Request(groups=GROUPS, n_groups=1)),
        ):
            one.logits(**one.inputs(lengths=(40, 40)))
    finally:
        AttentionInterface._global_mapping.pop("odd")
        AttentionMaskInterface._global_mapping.pop("odd")


def test_an_implementation_without_a_mask_function(small: Any) -> None:
    from transformers import AttentionInterface

    one = small("qwen2")
    AttentionInterface.register("maskless", AttentionInterface._global_mapping["sdpa"])
    try:
        one.use("maskless")
        with (
            pytest.raises(UnsupportedModel, match="'maskless' has no mask function"),
            capture(one.sites, Request(groups=GROUPS, n_groups=1)),
        ):
            one.logits(**one.inputs())
    finally:
        AttentionInterface._global_mapping.pop("maskless")


@pytest.mark.parametrize(
    ("mask", "options", "told"),
    [
        (object(), {}, "mask is not a tensor"),
        (None, {"cache": object()}, "paged cache"),
        (None, {"s_aux": torch.zeros(2)}, "do not sum to 1"),
    ],
)
def test_calls_that_a_plain_softmax_does_not_describe(mask: Any, options: dict[str, Any], told: str) -> None:
    tensors = (torch.zeros(1, 2, 3, 4),) * 3
    with pytest.raises(AttnlensError, match=told):
        read_call(nn.Identity(), tensors, mask, options, style="sdpa", query_start=0, key_start=0)


def test_layers_that_computed_only_their_last_rows(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As layers of Gemma 4 do in generation: rows both have are read at the right positions, others are refused."""
    one = small("llama")
    inputs = one.inputs(lengths=(40,))
    groups = torch.arange(40)[None] // 10
    with capture(one.sites, Request(groups=groups, n_groups=4)) as whole:
        one.logits(**inputs)
    last = one.layers[2]
    forward = last.self_attn.forward

    def sliced(hidden_states: torch.Tensor, **options: Any) -> Any:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        module = last.self_attn
        registered = ALL_ATTENTION_FUNCTIONS["sdpa"]

        def only_last(module: Any, query: Any, key: Any, value: Any, mask: Any, **more: Any) -> Any:
            rows = torch.arange(35, 40)
            mask = torch.arange(40)[None, :] <= rows[:, None]
            output, weights = registered(module, query[:, :, rows], key, value, mask[None, None], **more)
            full = sdpa_attention_forward(module, query, key, value, None, **more)[0].clone()
            full[:, rows] = output
            return full, weights

        with monkeypatch.context() as patch:
            patch.setitem(ALL_ATTENTION_FUNCTIONS._local_mapping, "sdpa", only_last)
            assert module is last.self_attn
            return forward(hidden_states, **options)

    monkeypatch.setattr(last.self_attn, "forward", sliced)
    with capture(one.sites, Request(groups=groups, n_groups=4, rows=torch.tensor([36, 39]))) as some:
        one.logits(**inputs)
    assert torch.allclose(some.stacked("mass"), whole.stacked("mass")[:, :, :, [36, 39]], atol=3e-6)
    with capture(one.sites, Request(groups=groups, n_groups=4)) as every:
        one.logits(**inputs)
    with pytest.raises(UnsupportedModel, match="computed different rows"):
        every.stacked("mass")


def test_out_of_memory_says_what_to_lower(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = small("qwen2")

    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("no")

    monkeypatch.setattr("attnlens.capture.observe.row_measures", full)
    with (
        pytest.raises(BadInput, match="not enough memory to read mass of 40 rows and 40 keys") as refusal,
        capture(one.sites, Request(groups=GROUPS, n_groups=1, chunk=128)),
    ):
        one.logits(**one.inputs())
    assert "lower chunk to 32" in str(refusal.value)


def test_norms_that_are_not_understood(small: Any) -> None:
    one = small("qwen2")
    odd = Sites.of(
        one.sites.decoder,
        layers=[layer.self_attn for layer in one.layers],
        output_projections=[layer.self_attn.o_proj for layer in one.layers],
        final_norm=nn.Softplus(),
        unembedding=one.model.lm_head,
    )
    asked = Request(
        groups=GROUPS, n_groups=1, rows=torch.tensor([5]), gold=torch.tensor([[3]]), measures=("logit_effect",)
    )
    with pytest.raises(UnsupportedModel, match="neither a LayerNorm nor"), capture(odd, asked):
        pass


def test_measures_are_listed_without_their_weight() -> None:
    wanted = {"mass", "entropy", "max", "argmax", "received", "contribution", "logit_effect"}
    assert {entry.name for entry in MEASURES.entries()} >= wanted
    assert all(entry.summary for entry in MEASURES.entries())
    assert MEASURES["received"].dims == ("key",)
