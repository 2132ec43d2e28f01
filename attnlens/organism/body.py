"""What the recipes train: the organism with the parts that training alone needs, and the losses over a batch."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.capture.packed import decode_packed
from attnlens.errors import BadInput
from attnlens.organism.lessons import COVERED, END, NEW, UNHEARD, UNPAIRED, Batch
from attnlens.organism.model import HEAD, Size, make_front_end, make_model
from attnlens.organism.phones import PHONES

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ORDINALS", "WORDS", "Body", "make_size", "read_parts", "write_parts"]

ORDINALS, WORDS = 16, 8
"""Places in a word and words in a phrase that are told apart; the last stands for all beyond."""
_KINDS = {"covered": COVERED, "new": NEW, "end": END, "unheard": UNHEARD, "unpaired": UNPAIRED}


def make_size(fields: dict[str, int] | None) -> Size:
    """Return a size from a spec's mapping."""
    try:
        return Size(**(fields or {}))
    except TypeError as error:
        raise BadInput(f"size: {error}", present=", ".join(Size.__dataclass_fields__)) from None


class Body:
    """The model, a reader of one head's queries and keys, and embeddings of phone tokens for exercises without sound.

    The reader is one linear classifier for both: the query of the first head of layer ``middle`` (from 0; None is the
    one half way up) shall name the sound to be written next, its key the sound written last. So the two are alike where
    they should be, and the head matches. Without it training waits long on a plateau before any head does.
    """

    def __init__(self, size: Size, *, seed: int, middle: int | None = None) -> None:
        import torch

        middle = size.layers // 2 if middle is None else middle
        if not 0 < middle < size.layers:
            raise BadInput("the auxiliary loss reads a layer that is not there", given=middle, present=size.layers)
        self.size, self.front = size, make_front_end(size)
        self.model = make_model(self.front, seed=seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            self.parts = torch.nn.ModuleDict(
                {
                    "model": self.model,
                    "sound": torch.nn.Linear(HEAD, len(PHONES)),
                    "phone": torch.nn.Embedding(len(PHONES), size.width),
                    "ordinal": torch.nn.Embedding(ORDINALS, size.width),
                    "word": torch.nn.Embedding(WORDS, size.width),
                }
            )
            for name in ("phone", "ordinal", "word"):
                torch.nn.init.normal_(self.parts[name].weight, std=0.5)  # type: ignore[arg-type]
        self._read: dict[str, Tensor] = {}
        matching = self.model.model.language_model.layers[middle].self_attn
        # Before the rotation, which mixes in where a token stands.
        matching.q_norm.register_forward_hook(functools.partial(self._keep, "next"))
        matching.k_norm.register_forward_hook(functools.partial(self._keep, "own"))

    @property
    def end_token(self) -> int:
        """The token that ends an answer."""
        return int(self.front.tokenizer.eos_token_id)

    def _keep(self, name: str, _module: object, _inputs: object, output: Tensor) -> None:
        self._read[name] = output[:, :, 0]

    def exercise(self, clips: dict[str, Any]) -> Tensor:
        """Return embeddings [positions, width] of phone tokens."""
        tensors = {name: self._tensor(array) for name, array in clips.items()}
        places = self.parts["ordinal"](tensors["ordinals"]) + self.parts["word"](tensors["words"])
        # A pause is a pause wherever it stands.
        return self.parts["phone"](tensors["phones"]) + places * (tensors["phones"] > 0)[:, None]

    def losses(
        self, batch: Batch, heard: Tensor | None, *, new: float, unheard: float, unpaired: float, auxiliary: float
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the weighted loss of a batch and what is worth watching: letters that the pairs cover above all.

        Parameters
        ----------
        heard
            Embeddings [positions, width] of all audio positions in order; None where there are none.
        new, unheard, unpaired
            The weight of letters that no pair has shown yet, of text without audio, and of letters of an answer that is
            heard after texts without theirs.
        auxiliary
            The weight of the losses of what the matching head reads.
        """
        from torch.nn import functional

        states, read = self._states(batch, heard)
        targets, kinds = self._flat(batch, batch.targets), self._flat(batch, batch.kinds)
        trained = targets >= 0
        logits = self.model.lm_head(states[trained]).float()
        wanted, kind = targets[trained], kinds[trained]
        weights = logits.new_ones(len(wanted))
        weights[kind == NEW] = new
        weights[kind == UNHEARD] = unheard
        weights[kind == UNPAIRED] = unpaired
        each = functional.cross_entropy(logits, wanted, reduction="none")
        loss = (each * weights).sum() / weights.sum().clamp(min=1e-6)
        right = logits.argmax(-1) == wanted
        figures = {"letters": float(each.detach().mean())}
        for name, code in _KINDS.items():
            chosen = kind == code
            if bool(chosen.any()):
                figures[name] = float(right[chosen].float().mean())
        if auxiliary:
            for name, array in (("next", batch.next_phone), ("own", batch.own_phone)):
                phones = self._flat(batch, array)
                if bool((phones >= 0).any()):
                    one = functional.cross_entropy(
                        self.parts["sound"](read[name][phones >= 0]).float(), phones[phones >= 0]
                    )
                    loss = loss + auxiliary * one
                    figures[f"{name}_phone"] = float(one.detach())
        return loss, figures

    def answer_bits(self, batch: Batch, heard: Tensor | None) -> float:
        """Return the bits of all trained tokens of a batch together."""
        from torch.nn import functional

        states, _ = self._states(batch, heard)
        targets = self._flat(batch, batch.targets)
        trained = targets >= 0
        logits = self.model.lm_head(states[trained]).float()
        return float(functional.cross_entropy(logits, targets[trained], reduction="sum")) / float(np.log(2))

    def _states(self, batch: Batch, heard: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the last states [positions of all lessons, width], and what the reader reads [the same, HEAD]."""
        ids = self._flat(batch, batch.ids)
        embedded = self.model.model.language_model.embed_tokens(ids)
        if heard is not None:
            audio = ids == self.front.audio_token_id
            embedded = embedded.masked_scatter(audio[:, None], heard.to(embedded.dtype))
        states = decode_packed(self.model.model.language_model, embedded, batch.lengths.tolist())
        return states, {name: one[0] for name, one in self._read.items()}

    def _flat(self, batch: Batch, array: Any) -> Tensor:
        """Return an array [lessons, positions] without the padding, lesson after lesson."""
        return self._tensor(array[np.arange(array.shape[1]) < batch.lengths[:, None]])

    def _tensor(self, array: Any) -> Tensor:
        import torch

        return torch.as_tensor(array).to(self.parts["sound"].weight.device, non_blocking=True)  # type: ignore[arg-type]


def write_parts(parts: Any, size: Size, folder: Path) -> None:
    """Write what one stage hands to the next."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in parts.state_dict().items()}
    save_file(weights, folder / "parts.safetensors")
    (folder / "size.json").write_text(json.dumps(asdict(size)), encoding="utf-8")


def read_parts(folder: Path | str, size: Size) -> dict[str, Any]:
    """Return what an earlier stage handed over; one of another size is refused."""
    from safetensors.torch import load_file

    folder = Path(folder)
    if not (folder / "size.json").is_file():
        raise BadInput(
            f"there is no earlier stage in {folder}", fix="train it first; experiments/organism says in which order"
        )
    there = json.loads((folder / "size.json").read_text(encoding="utf-8"))
    if there != asdict(size):
        raise BadInput(f"the stage in {folder} has another size", given=asdict(size), present=there)
    return load_file(folder / "parts.safetensors")
