"""A family's model behind one interface: where its decoder is, and how prompts become what it reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from attnlens.context.encode import Encoded, Features, encode
from attnlens.context.prompt import Prompt
from attnlens.errors import BadInput, SelfCheckFailed
from attnlens.models.frontend import BaseFrontEnd

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["BaseBackEnd"]


class BaseBackEnd:
    """What all decoders that read audio as embeddings share. A family sets names and overrides what differs.

    Clips go through the audio encoder one at a time and the model is given embeddings. In several families a clip
    encoded next to a longer one comes out different; here the embedding of a clip depends on that clip alone.
    """

    model_class: ClassVar[str]
    """The transformers class, by name."""
    decoder_path: ClassVar[str] = "model.language_model"
    encoder_path: ClassVar[str] = "model.audio_tower"
    projector_paths: ClassVar[tuple[str, ...]] = ("model.multi_modal_projector",)
    """What leads from the encoder's states to the decoder's; empty where the encoder does that itself."""
    unembedding_name: ClassVar[str] = "lm_head"
    adapter_folder: ClassVar[str | None] = None
    """The folder of a checkpoint that holds the adapter its audio was trained with."""
    attention_name: ClassVar[str] = "self_attn"
    projection_name: ClassVar[str] = "o_proj"
    mlp_name: ClassVar[str] = "mlp"

    def __init__(self, model: Any, front: BaseFrontEnd) -> None:
        self.model = model
        self.front = front

    @property
    def decoder(self) -> Any:
        """The text model that owns the layers."""
        return self.model.get_submodule(self.decoder_path)

    @property
    def decoder_layers(self) -> Sequence[nn.Module]:
        """The decoder's layers in order."""
        return list(self.decoder.layers)

    @property
    def n_heads(self) -> int:
        """How many query heads each decoder layer has."""
        return int(self.model.config.get_text_config(decoder=True).num_attention_heads)

    @property
    def context_length(self) -> int | None:
        """How many positions fit, when anybody says."""
        return self.front.context_length

    @property
    def final_norm(self) -> nn.Module | None:
        """The norm between the last layer and the unembedding."""
        return self.decoder.norm

    @property
    def unembedding(self) -> Any:
        """The module from the normed stream to the class's logits, before :attr:`logit_scale`."""
        return self.model.get_submodule(self.unembedding_name)

    @property
    def residual_multiplier(self) -> float:
        """What the halves of a layer are multiplied by when they are added to the stream."""
        return 1.0

    @property
    def cross_attention(self) -> Sequence[nn.Module]:
        """Attention from the decoder to an encoder, in order; empty where audio is read as embeddings."""
        return ()

    @property
    def encoder_attention(self) -> Sequence[nn.Module]:
        """Attention inside an encoder that runs with every forward pass, in order."""
        return ()

    @property
    def logit_scale(self) -> float:
        """What the class's logits are multiplied by to be those the model was trained with."""
        return 1.0

    @property
    def cache_border(self) -> int | None:
        """The longest sequence whose cached keys stay valid: beyond it the model rotates all positions anew."""
        return None

    def encode(self, prompt: Prompt, output: str | None) -> Encoded:
        """Return labelled ids and features."""
        return encode(prompt, self.front, output=output)

    def embed_clip(self, arrays: dict[str, Tensor]) -> Tensor:
        """Return the embeddings [positions, hidden] of one clip's features."""
        return self.model.get_audio_features(**arrays, return_dict=True).pooler_output

    def embed(self, encoded: Encoded) -> Tensor:
        """Return what the decoder reads, [positions, hidden]: token embeddings with the clips in their places."""
        import torch

        decoder = self.decoder
        table = decoder.get_input_embeddings()
        ids = torch.as_tensor(encoded.ids, device=self.model.device)
        audio = ids == self.front.audio_token_id
        # The placeholder may lie outside the embedding table; what stands there is overwritten anyway.
        embedded = table(ids.masked_fill(audio, 0))
        due = sum(clip.positions for clip in encoded.features)
        if int(audio.sum()) != due:
            raise BadInput(
                f"{int(audio.sum())} positions hold the audio placeholder, the features fill {due}",
                given=f"the prompt for {encoded.prompt.target.id!r}",
                fix="pass what `encode` returned, unchanged",
            )
        if encoded.features:
            clips = [self._checked(clip) for clip in encoded.features]
            embedded = embedded.masked_scatter(audio[:, None], torch.cat(clips).to(embedded.device, embedded.dtype))
        return embedded

    def inputs(self, encoded: Sequence[Encoded]) -> dict[str, Tensor]:
        """Return the model's arguments for a left-padded batch of prompts.

        ``inputs_embeds`` [prompts, positions, hidden], ``attention_mask`` and ``position_ids`` [prompts, positions].
        Positions are always passed: some families otherwise remember those of the previous prompt.
        """
        import torch

        rows = [self.embed(one) for one in encoded]
        longest = max(len(row) for row in rows)
        embedded = rows[0].new_zeros(len(rows), longest, rows[0].shape[-1])
        mask = torch.zeros(len(rows), longest, dtype=torch.long, device=embedded.device)
        for index, row in enumerate(rows):
            embedded[index, longest - len(row) :] = row
            mask[index, longest - len(row) :] = 1
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        return {"inputs_embeds": embedded, "attention_mask": mask, "position_ids": positions}

    def extended(self, inputs: dict[str, Tensor], ids: Tensor) -> dict[str, Tensor]:
        """Return the inputs of one prompt with token ids [tokens] after them."""
        import torch

        new = self.decoder.get_input_embeddings()(ids)[None]
        last = inputs["position_ids"][:, -1:]
        return {
            "inputs_embeds": torch.cat([inputs["inputs_embeds"], new], dim=1),
            "attention_mask": torch.cat([inputs["attention_mask"], torch.ones_like(ids)[None]], dim=1),
            "position_ids": torch.cat([inputs["position_ids"], last + 1 + torch.arange(len(ids)).to(last)], dim=1),
        }

    def new_tokens(self, inputs: dict[str, Tensor], made: Tensor) -> list[int]:
        """Return the ids that ``generate`` added: all of them, since it was given embeddings."""
        return made[0].tolist()

    def logits(self, inputs: dict[str, Tensor], keep: slice | Tensor) -> Tensor:
        """Return logits [prompts, kept positions, vocabulary] of one forward pass without a cache."""
        hidden = self.model.base_model(**inputs, use_cache=False).last_hidden_state
        return self.unembedding(hidden[:, keep]) * self.logit_scale

    def _checked(self, clip: Features) -> Tensor:
        import torch

        arrays = {}
        for name, array in clip.arrays.items():
            tensor = torch.as_tensor(array, device=self.model.device)
            arrays[name] = tensor.to(self.model.dtype) if tensor.is_floating_point() else tensor
        embedded = self.embed_clip(arrays)
        if len(embedded) != clip.positions:
            raise SelfCheckFailed(
                f"{self.front.family}'s audio encoder and its length rule disagree",
                given=f"a clip of {clip.positions} positions",
                present=f"{len(embedded)} embeddings",
                fix="load the front end and the weights from the same checkpoint",
            )
        return embedded
