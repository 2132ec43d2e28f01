"""The back end of a model that transformers does not have: what a user hands over, and nothing guessed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from attnlens.context.encode import Encoded
from attnlens.context.prompt import Prompt
from attnlens.errors import UnsupportedModel
from attnlens.models.backend import BaseBackEnd

if TYPE_CHECKING:
    from torch import Tensor, nn

    from attnlens.models.frontend import BaseFrontEnd

__all__ = ["ForeignBackEnd"]


class ForeignBackEnd(BaseBackEnd):
    """Calls what :meth:`attnlens.models.speechlm.SpeechLM.wrap` was given."""

    def __init__(
        self,
        model: nn.Module,
        *,
        decoder: nn.Module,
        layers: Sequence[nn.Module],
        forward: Callable[[dict[str, Any]], Tensor],
        n_heads: int,
        encode: Callable[[Prompt, str | None], Encoded] | None,
        inputs: Callable[[Sequence[Encoded]], dict[str, Any]] | None,
        names: dict[str, str],
    ) -> None:
        self.model = model
        self._decoder, self._layers, self._forward = decoder, layers, forward
        self._encode, self._inputs = encode, inputs
        self._n_heads = n_heads
        vars(self).update(names)

    @property
    def front(self) -> BaseFrontEnd:  # type: ignore[override]
        """There is none."""
        raise self._without("a front end", "use what the model's own code offers")

    @property
    def decoder(self) -> Any:
        """The module that was named as the decoder."""
        return self._decoder

    @property
    def decoder_layers(self) -> Sequence[nn.Module]:
        """The layers that were passed."""
        return self._layers

    @property
    def final_norm(self) -> nn.Module | None:
        """Unknown."""
        return None

    @property
    def unembedding(self) -> Any:
        """Unknown."""
        return None

    @property
    def n_heads(self) -> int:
        """What was passed."""
        return self._n_heads

    @property
    def context_length(self) -> int | None:
        """Nobody says."""
        return None

    def encode(self, prompt: Prompt, output: str | None) -> Encoded:
        """Encode by the function that was passed."""
        if self._encode is None:
            raise self._without("a way to encode prompts", "pass encode= to SpeechLM.wrap")
        return self._encode(prompt, output)

    def inputs(self, encoded: Sequence[Encoded]) -> dict[str, Any]:
        """Make inputs by the function that was passed."""
        if self._inputs is None:
            raise self._without("a way to make inputs of encoded prompts", "pass inputs= to SpeechLM.wrap")
        return self._inputs(encoded)

    def logits(self, inputs: dict[str, Any], keep: slice | Tensor) -> Tensor:
        """Return logits [prompts, kept positions, vocabulary]."""
        return self._forward(inputs)[:, keep]

    def _without(self, what: str, fix: str) -> UnsupportedModel:
        return UnsupportedModel(f"this wrapped model came without {what}", given=type(self.model).__name__, fix=fix)
