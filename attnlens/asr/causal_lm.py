"""Any causal language model of transformers, reading demonstrations as lines of text."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.asr.language_model import TextScore
from attnlens.errors import BadInput, UnsupportedModel

if TYPE_CHECKING:
    import torch

__all__ = ["CausalLM", "load_causal_lm"]


class CausalLM:
    """Score texts as the next line after demonstrations; the lines before are read once for all texts.

    Made by :func:`load_causal_lm`, or from a model and its tokenizer. Every text is tokenised by itself, so that what
    stands before it does not change its tokens.

    Parameters
    ----------
    separator
        What ends a line, and with it the text: its probability is that of the end. None: a model of single texts, that
        reads no demonstrations and ends a text with its own end token.
    batch
        Texts per forward pass.
    """

    def __init__(self, model: Any, tokenizer: Any, *, name: str, separator: str | None = "\n", batch: int = 16) -> None:
        if batch < 1:
            raise BadInput("a batch holds a text or more", given=f"batch={batch}")
        self.model, self.tokenizer, self.name, self.separator, self.batch = model, tokenizer, name, separator, batch
        if separator is None:
            if tokenizer.eos_token_id is None:
                raise BadInput(f"{name} has no token that ends a text", fix="pass separator='\\n'")
            self.ending = [int(tokenizer.eos_token_id)]
        else:
            self.ending = self._ids(separator)
            if not self.ending or tokenizer.decode(self.ending) != separator:
                raise BadInput(
                    f"the tokenizer of {name} cannot write the separator", given=repr(separator), fix="pass another"
                )

    def score(self, texts: Sequence[str], *, demonstrations: Sequence[str] = ()) -> list[TextScore]:
        """Return one score per text, its first token and its end included."""
        if isinstance(texts, str):
            raise BadInput("texts are a list", given=repr(texts), fix=f"pass [{texts!r}]")
        if demonstrations and self.separator is None:
            raise BadInput(
                f"{self.name} reads single texts, no demonstrations",
                given=f"{len(demonstrations)} texts",
                fix="train it on them, or load with separator='\\n'",
            )
        prompt = self._prompt(demonstrations)
        spelled = [[*self._ids(text), *self.ending] for text in texts]
        self._require_room(len(prompt) + max(map(len, spelled), default=0))
        distinct = list(dict.fromkeys(map(tuple, spelled)))
        found: dict[tuple[int, ...], TextScore] = {}
        # Of like length together: less of a batch is padding.
        order = sorted(distinct, key=len)
        if order:
            before = self._read(prompt)
            for start in range(0, len(order), self.batch):
                chunk = order[start : start + self.batch]
                found.update(zip(chunk, self._scored(before, chunk), strict=True))
        return [found[tuple(one)] for one in spelled]

    def write(self, prompt: str, *, max_new_tokens: int = 64) -> str:
        """Continue a text greedily, to the end of its line."""
        import torch

        ids = torch.tensor([self._begun(self._ids(prompt))], device=self.model.device)
        with torch.no_grad():
            made = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=self.tokenizer.pad_token_id or self.tokenizer.eos_token_id or 0,
            )
        text = str(self.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True))
        return text if self.separator is None else text.strip().split(self.separator)[0]

    def _prompt(self, demonstrations: Sequence[str]) -> list[int]:
        ids = []
        for text in demonstrations:
            ids += [*self._ids(text), *self.ending]
        return self._begun(ids)

    def _begun(self, ids: list[int]) -> list[int]:
        begin = self.tokenizer.bos_token_id
        if begin is None:
            # Where texts are only ended, the end of one is the beginning of the next.
            begin = self.tokenizer.eos_token_id
        if begin is None and not ids:
            raise BadInput(
                f"{self.name} has no token to begin with, so the first token of a text cannot be scored",
                fix="pass demonstrations",
            )
        return ids if begin is None else [int(begin), *ids]

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _read(self, prompt: list[int]) -> tuple[Any, torch.Tensor, int]:
        """Return the cache of the prompt, the log-probabilities of what follows it [vocabulary], and its length."""
        import torch

        with torch.no_grad():
            out = self.model(input_ids=torch.tensor([prompt], device=self.model.device), use_cache=True)
        return out.past_key_values, out.logits[0, -1].float().log_softmax(-1), len(prompt)

    def _scored(self, before: tuple[Any, torch.Tensor, int], texts: Sequence[Sequence[int]]) -> list[TextScore]:
        import torch

        cache, first, length = before
        widest = max(map(len, texts)) - 1
        found = [[float(first[ids[0]])] for ids in texts]
        if widest:
            ids = torch.tensor([[*one[:-1], *[0] * (widest + 1 - len(one))] for one in texts], device=self.model.device)
            mask = torch.ones(len(texts), length + widest, dtype=torch.long, device=self.model.device)
            for row, one in enumerate(texts):
                mask[row, length + len(one) - 1 :] = 0
            shared = copy.deepcopy(cache)
            shared.batch_repeat_interleave(len(texts))
            with torch.no_grad():
                logits = self.model(input_ids=ids, attention_mask=mask, past_key_values=shared, use_cache=True).logits
            after = logits.float().log_softmax(-1).cpu()
            for row, one in enumerate(texts):
                found[row] += after[row, range(len(one) - 1), list(one[1:])].tolist()
        cut = len(self.ending)
        return [TextScore(np.array(one[:-cut], dtype=np.float64), float(np.sum(one[-cut:]))) for one in found]

    def _require_room(self, tokens: int) -> None:
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if limit is not None and tokens > limit:
            raise BadInput(
                f"the texts do not fit into {self.name}",
                given=f"{tokens} tokens",
                present=f"a context of {limit}",
                fix="pass fewer demonstrations",
            )


def load_causal_lm(
    name: str | Path,
    *,
    separator: str | None = "\n",
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "cpu",
    batch: int = 16,
) -> CausalLM:
    """Load a causal language model by folder, hub name or ``.gguf`` file; models that bring their own code are refused.

    What the recipe ``text-lm`` exports is one of single texts: pass ``separator=None``. A GGUF file holds its tokenizer
    too; its weights are unpacked to ``dtype``, and reading it needs the package ``gguf``.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = Path(name)
    options: dict[str, Any] = {"revision": revision}
    if path.suffix == ".gguf" and path.is_file():
        if importlib.util.find_spec("gguf") is None:
            raise UnsupportedModel(
                f"{path.name} is a GGUF file, and the package that reads it is not installed",
                fix="pip install 'attnlens[lm]'",
            )
        name, options = path.parent, {"gguf_file": path.name, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
        model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, **options).to(device).eval()
    except (OSError, ValueError) as error:
        raise UnsupportedModel(
            f"{name} could not be loaded as a causal language model",
            present=str(error).splitlines()[0][:200],
            fix="pass a folder or a hub name that transformers itself knows",
        ) from None
    return CausalLM(
        model, tokenizer, name=path.stem if "gguf_file" in options else path.name, separator=separator, batch=batch
    )
