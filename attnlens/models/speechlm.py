"""One speech language model with its insides under stable names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from attnlens.context.encode import Encoded
from attnlens.context.prompt import Prompt
from attnlens.errors import BadInput, UnsupportedModel
from attnlens.models.backend import BaseBackEnd
from attnlens.models.frontend import BaseFrontEnd
from attnlens.models.generation import Generation, generate
from attnlens.models.hooks import Layer, find
from attnlens.models.memory import asking
from attnlens.models.verbs import Verbs

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from attnlens.capture.sites import Kind, Sites

__all__ = ["SpeechLM", "require_visible"]


class SpeechLM(Verbs):
    """Read prompts with a model, and reach every layer of its decoder by the same names whatever the family.

    Made by :func:`attnlens.models.load.load`, or by :meth:`wrap` for a model that transformers does not have.

    >>> from attnlens.models.load import load
    >>> from attnlens.context.build import build_prompt
    >>> from attnlens.testing import corpus
    >>> lens, speech = load("tiny:qwen3-asr"), corpus()
    >>> encoded = lens.encode(build_prompt(speech.test[0], speech.pool, condition="micl", shots=2))
    >>> tuple(lens.logits(lens.inputs(encoded)).shape) == (1, len(encoded.ids), 320)
    True
    >>> lens.layers[1].attention_output.path
    'model.language_model.layers.1.self_attn'
    """

    def __init__(self, back: BaseBackEnd, *, name: str, family: str, adapter: str | None = None) -> None:
        self.back = back
        self.name = name
        self.family = family
        self.model: Any = back.model
        self.adapter = adapter

    @classmethod
    def wrap(
        cls,
        model: nn.Module,
        *,
        decoder: nn.Module,
        layers: Sequence[nn.Module],
        forward: Callable[[dict[str, Any]], Tensor],
        n_heads: int,
        name: str = "wrapped",
        encode: Callable[[Prompt, str | None], Encoded] | None = None,
        inputs: Callable[[Sequence[Encoded]], dict[str, Any]] | None = None,
        attention: str = "self_attn",
        projection: str = "o_proj",
        mlp: str = "mlp",
    ) -> SpeechLM:
        """Wrap a model that transformers does not have, as long as its attention goes through transformers' interface.

        Parameters
        ----------
        model
            The whole; its parameters say device and dtype.
        decoder
            The module whose forward sees all positions of the decoder.
        layers
            The decoder's layers in order; ``attention``, ``projection`` (inside attention) and ``mlp`` are the names of
            their parts.
        forward
            From the model's inputs to logits [prompts, positions, vocabulary].
        n_heads
            Query heads of each layer.
        encode
            From a prompt and an output to labelled ids; without it the lens takes inputs and labels, and no prompts.
        inputs
            From encoded prompts to what ``forward`` takes.

        >>> import torch
        >>> toy = torch.nn.Sequential(torch.nn.Linear(4, 5))
        >>> lens = SpeechLM.wrap(
        ...     toy, decoder=toy, layers=list(toy), forward=lambda inputs: toy(inputs["states"]), n_heads=2
        ... )
        >>> lens.logits({"states": torch.zeros(1, 3, 4)}, keep=2).shape
        torch.Size([1, 2, 5])
        """
        from attnlens.models.foreign import ForeignBackEnd

        names = {"attention_name": attention, "projection_name": projection, "mlp_name": mlp}
        back = ForeignBackEnd(
            model,
            decoder=decoder,
            layers=layers,
            forward=forward,
            n_heads=n_heads,
            encode=encode,
            inputs=inputs,
            names=names,
        )
        return cls(back, name=name, family="wrapped")

    @property
    def front(self) -> BaseFrontEnd:
        """Tokenizer, feature extractor and length rule."""
        return self.back.front

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return next(self.model.parameters()).dtype

    @property
    def decoder(self) -> Any:
        """The text model that owns the layers."""
        return self.back.decoder

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The decoder's layers with their hook points."""
        paths = {id(module): path for path, module in self.model.named_modules()}
        names = {"attention": self.back.attention_name, "mlp": self.back.mlp_name}
        return tuple(
            Layer.of(index, paths.get(id(layer), ""), layer, **names)
            for index, layer in enumerate(self.back.decoder_layers)
        )

    @property
    def n_layers(self) -> int:
        """How many layers the decoder has."""
        return len(self.layers)

    @property
    def n_heads(self) -> int:
        """How many query heads each decoder layer has."""
        return self.back.n_heads

    @property
    def attn(self) -> str:
        """Which implementation computes the decoder's attention."""
        config = getattr(self.layers[0].attention_output.module, "config", None)
        return str(getattr(config, "_attn_implementation", "unknown"))

    @property
    def cache_border(self) -> int | None:
        """The longest sequence whose cached keys stay valid, where the family has such a border."""
        return self.back.cache_border

    @cached_property
    def sites(self) -> Sites:
        """Which attention modules are watched, and the decoder that says where they are in the text."""
        from attnlens.capture.sites import Sites

        modules: dict[Kind, Sequence[nn.Module]] = {
            "self": [layer.attention_output.module for layer in self.layers],
            "cross": self.back.cross_attention,
            "encoder": self.back.encoder_attention,
        }
        name = self.back.projection_name
        return Sites.of(
            self.decoder,
            layers=modules["self"],
            cross=modules["cross"],
            encoder=modules["encoder"],
            output_projections={
                kind: [find(one, name, what="an attention module") for one in all_] for kind, all_ in modules.items()
            },
            final_norm=self.back.final_norm,
            unembedding=self.back.unembedding,
            residual_multiplier=self.back.residual_multiplier,
        )

    def encode(self, prompt: Prompt, output: str | None = None) -> Encoded:
        """Return ids with a label on each; ``output`` appends an answer to be scored or traced."""
        return self.back.encode(prompt, output)

    def require_room(self, encoded: Encoded, *, reserve: int = 0) -> None:
        """Refuse a prompt that leaves fewer than ``reserve`` positions of the context."""
        self.require_positions(encoded.prompt, len(encoded.ids), reserve=reserve)

    def require_positions(self, prompt: Prompt, positions: int, *, reserve: int = 0) -> None:
        """Refuse a prompt of so many positions, which need not be encoded yet, where the context has no room for it."""
        limit = self.back.context_length
        if limit is not None and positions + reserve > limit:
            raise BadInput(
                f"the prompt for {prompt.target.id!r} does not fit into {self.name}",
                given=f"{positions} + {reserve} positions",
                present=f"a context of {limit} positions",
                fix="lower the shots, or build with on_overflow='fewer-shots'",
            )

    def inputs(self, encoded: Encoded | Sequence[Encoded]) -> dict[str, Any]:
        """Return the model's arguments for one prompt, or for several padded on the left into a batch.

        The audio encoder runs here, one clip at a time, and its embeddings are checked against the positions they fill.
        """
        import torch

        batch = [encoded] if isinstance(encoded, Encoded) else list(encoded)
        if not batch:
            raise BadInput("a batch holds at least one prompt", given="none", fix="pass one encoded prompt or more")
        for one in batch:
            self.require_room(one)
        self._refuse_across_border(batch)
        what = f"embedding {sum(len(one.ids) for one in batch)} positions of {len(batch)} prompts"
        with asking(what, fix="pass fewer prompts at once, or lower the shots"), torch.no_grad():
            return self.back.inputs(batch)

    def logits(
        self,
        inputs: dict[str, Any],
        *,
        keep: int | Tensor | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Return logits [prompts, positions, vocabulary] of one forward pass, as the model was trained to give them.

        Parameters
        ----------
        inputs
            What :meth:`inputs` returned.
        keep
            The last so many positions, or a tensor of positions; None is all.
        dtype
            Converted to, such as ``torch.float32``; None is the model's own.
        """
        import torch

        if isinstance(keep, int) and keep < 1:
            raise BadInput("at least one position is kept", given=f"keep={keep}", fix="pass 1 or more, or None for all")
        rows = slice(None) if keep is None else slice(-keep, None) if isinstance(keep, int) else keep.to(self.device)
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in inputs.items() if torch.is_tensor(value))
        fix = "keep fewer positions, pass fewer prompts at once, or lower the shots"
        with asking(f"a forward pass over {shapes}", fix=fix), torch.no_grad():
            made = self.back.logits(inputs, rows)
            return made if dtype is None else made.to(dtype)

    def generate(
        self,
        prompt: Prompt | Encoded,
        *,
        max_new_tokens: int = 256,
        do_sample: bool = False,
        seed: int = 0,
        **options: Any,
    ) -> Generation:
        """Decode an answer to a prompt.

        Greedy by default, whatever the checkpoint's own settings are: no temperature, no penalty. What else
        transformers' ``generate`` takes (``num_beams``, ``temperature``) can be passed by name; ``seed`` is for
        sampling.

        >>> from attnlens.models.load import load
        >>> from attnlens.context.build import build_prompt
        >>> from attnlens.testing import utterance
        >>> answer = load("tiny:voxtral").generate(
        ...     build_prompt(utterance("t"), [], condition="asr"), max_new_tokens=4
        ... )
        >>> len(answer.ids) <= 4, answer.ended in ("end-token", "length")
        (True, True)
        """
        encoded = self.encode(prompt) if isinstance(prompt, Prompt) else prompt
        return generate(self, encoded, max_new_tokens=max_new_tokens, do_sample=do_sample, seed=seed, options=options)

    def _refuse_across_border(self, batch: Sequence[Encoded]) -> None:
        border = self.cache_border
        if border is None or len({len(one.ids) > border for one in batch}) == 1:
            return
        raise BadInput(
            f"{self.name} reads prompts longer than {border} positions in another way, which in a batch acts on all",
            given=", ".join(str(len(one.ids)) for one in batch) + " positions",
            fix="pass prompts of up to and of more than that many positions separately",
        )


def require_visible(back: BaseBackEnd, *, name: str) -> None:
    """Refuse a model whose decoder computes attention where nobody can watch it."""
    through_interface = getattr(back.decoder, "_can_set_attn_implementation", None)
    if through_interface is None or not through_interface():
        raise UnsupportedModel(
            "the decoder computes attention by itself, past transformers' attention interface",
            given=f"{name}: {type(back.decoder).__name__}",
            fix="use transformers' own class of this model",
        )
