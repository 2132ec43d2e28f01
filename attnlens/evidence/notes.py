"""What is measured already, kept line by line in a file: work that was stopped goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlens.context.prompt import Prompt, stable_hash
from attnlens.errors import BadInput

if TYPE_CHECKING:
    from attnlens.models.speechlm import SpeechLM

__all__ = ["Notes", "asked_of", "noted"]


class Notes:
    """Values by name in a file of JSON lines, each on the disk before the next is measured.

    A line that a kill cut short is dropped, and measured again. One process writes a file.

    Parameters
    ----------
    path
        The file; made with the first note.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "notes.jsonl"
    >>> first = Notes(path)
    >>> first.once("cost", lambda: 0.25), len(Notes(path))
    (0.25, 1)
    >>> Notes(path).once("cost", lambda: 1 / 0)
    0.25
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._values: dict[str, Any] = {}
        if not self.path.exists():
            return
        whole = 0
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    name, value = json.loads(line)
                except ValueError:
                    raise BadInput(
                        f"{self.path} is not a file of notes",
                        given=line[:60].decode(errors="replace"),
                        fix="remove it, and what it held is measured again",
                    ) from None
                self._values[name] = value
                whole += len(line)
        if whole < self.path.stat().st_size:
            os.truncate(self.path, whole)

    def __len__(self) -> int:
        return len(self._values)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Return the value of a name; one that is not there is made, and kept before it is returned.

        Values are what JSON holds: numbers, text, lists, mappings. Infinities and NaN are kept too.
        """
        if name not in self._values:
            value = make()
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([name, value]) + "\n")
                file.flush()
                os.fsync(file.fileno())
            self._values[name] = value
        return self._values[name]


def noted(notes: Notes | None, name: str, make: Callable[[], Any]) -> Any:
    """Return what notes hold of a name, or make it; without notes nothing is kept.

    >>> noted(None, "cost", lambda: 0.5)
    0.5
    """
    return make() if notes is None else notes.once(name, make)


def asked_of(notes: Notes | None, lens: SpeechLM, prompts: Sequence[Prompt], *how: object) -> str:
    """Return a name for measurements of these prompts by this model; empty where nothing is kept.

    In it are the weights, what the prompts show, their references, and ``how``: values of JSON.
    """
    if notes is None:
        return ""
    from attnlens.models.fingerprint import fingerprint

    shown = [[one.digest, one.target.text] for one in prompts]
    return stable_hash(lens.name, fingerprint(lens.model), str(lens.dtype), shown, *how)
