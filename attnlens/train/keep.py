"""What a training run leaves on disk: the spec it belongs to, its last state, its best weights, its log."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml

from attnlens.errors import BadInput, DamagedStore
from attnlens.train.spec import TrainSpec

__all__ = ["Keeper"]


class Keeper:
    """Open a run's folder, new or to be resumed. A folder of another spec, or of something else, is left untouched.

    ``spec.yaml``, ``log.jsonl`` (one object a line), ``last.pt`` (what resuming needs) and ``best.safetensors``. Each
    file is written beside and then moved into its place, so that a kill leaves the one before.
    """

    def __init__(self, folder: Path, spec: TrainSpec) -> None:
        self.folder = folder
        self.spec = spec
        told = folder / "spec.yaml"
        if told.exists():
            there = yaml.safe_load(told.read_text(encoding="utf-8"))["hash"]
            if there != spec.hash:
                raise BadInput(
                    f"{folder} holds a run of another spec",
                    given=f"a spec with hash {spec.hash}",
                    present=f"a run of hash {there}",
                    fix="pass another --out, or the spec that stands in its spec.yaml",
                )
        elif folder.exists() and any(folder.iterdir()):
            raise BadInput(
                f"{folder} is not empty and holds no training run",
                present=", ".join(sorted(one.name for one in folder.iterdir())[:6]),
                fix="pass a new folder as --out",
            )

    def begin(self) -> None:
        """Make the folder of a new run: when its recipe stands, so that a spec that is refused leaves nothing."""
        if (self.folder / "spec.yaml").exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        fields = {"hash": self.spec.hash, **self.spec.model_dump(mode="json")}
        self._replace("spec.yaml", yaml.safe_dump(fields, sort_keys=False, allow_unicode=True).encode())

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return (self.folder / "finished").exists()

    def finish(self) -> None:
        """Mark the run as complete."""
        self._replace("finished", b"")

    def save(self, state: dict[str, Any]) -> None:
        """Keep what resuming needs."""
        import torch

        partial = self.folder / "last.pt.part"
        torch.save(state, partial)
        partial.replace(self.folder / "last.pt")

    def resume(self, device: str) -> dict[str, Any] | None:
        """Return what :meth:`save` kept last and cut the log back to it; None for a new run."""
        import pickle

        import torch

        path = self.folder / "last.pt"
        if not path.exists():
            # Killed before its first save: what it logged will be logged again.
            (self.folder / "log.jsonl").unlink(missing_ok=True)
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise DamagedStore(f"{path} cannot be read: {str(error).splitlines()[0]}", fix="delete the run") from None
        log = self.folder / "log.jsonl"
        if log.exists():
            lines = log.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= state["step"]]
            self._replace("log.jsonl", "".join(f"{line}\n" for line in kept).encode())
        return state

    def save_best(self, weights: dict[str, Any]) -> None:
        """Keep the weights with the best dev metric so far."""
        from safetensors.torch import save_file

        partial = self.folder / "best.safetensors.part"
        save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}, partial)
        partial.replace(self.folder / "best.safetensors")

    def best(self) -> dict[str, Any]:
        """Return the weights that :meth:`save_best` kept last."""
        from safetensors.torch import load_file

        return load_file(self.folder / "best.safetensors")

    def log(self, **fields: Any) -> None:
        """Append one line to the log."""
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(fields) + "\n")

    def _replace(self, name: str, content: bytes) -> None:
        partial = self.folder / f"{name}.part"
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.folder / name)
