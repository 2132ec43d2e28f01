"""Token-level detail kept beside a run: what was measured, what was said and shown, and the clips to listen to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlens.context.prompt import Prompt
from attnlens.data.audio import RATE, Audio
from attnlens.errors import BadInput, DamagedStore
from attnlens.traces.detail import validate_detail

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Tokens", "keep_tokens", "read_tokens"]

FOLDER = "tokens"


@dataclass(frozen=True, eq=False)
class Tokens:
    """The detail of an item, its prompt in plain values, and the audio of each clip by its span's name."""

    item: str
    detail: xr.Dataset
    about: dict[str, Any]
    clips: dict[str, Path]


def keep_tokens(folder: str | Path, item: str, detail: xr.Dataset, prompt: Prompt, *, about: dict[str, Any]) -> Path:
    """Keep an item's detail and its audio in a run directory, so that its report can be made without the corpus.

    ``about`` holds what the item is: ``utterance``, ``condition``, ``shots``, ``control``, ``seed``.

    >>> import tempfile
    >>> from attnlens.models.detail import token_detail
    >>> from attnlens.models.load import load
    >>> from attnlens.models.self_check import probe
    >>> folder, prompt = tempfile.mkdtemp(), probe()
    >>> detail = token_detail(load("tiny:qwen3-asr"), prompt, output="ka")
    >>> _ = keep_tokens(folder, "a1", detail, prompt, about={"utterance": "u", "condition": "micl", "control": "none"})
    >>> sorted(read_tokens(folder)["a1"].clips)
    ['demo_audio 1', 'demo_audio 2', 'target_audio']
    """
    validate_detail(detail, item=item)
    place = Path(folder) / FOLDER
    heard: dict[str, Audio] = {
        f"demo_audio {number + 1}": one.audio
        for number, one in enumerate(prompt.demonstrations)
        if one.audio is not None
    }
    if prompt.target.audio is not None:
        heard["target_audio"] = prompt.target.audio
    try:
        (place / "clips").mkdir(parents=True, exist_ok=True)
        clips = {name: _kept(place / "clips", audio) for name, audio in heard.items()}
        said = {**about, "item": item, "clips": clips, "prompt": prompt.to_dict()}
        packed = {name: {"zlib": True, "complevel": 1} for name in ("weights", "effects") if name in detail}
        detail.to_netcdf(place / f"{item}.nc", engine="h5netcdf", encoding=packed)
        (place / f"{item}.json").write_text(json.dumps(said, ensure_ascii=False, indent=1), encoding="utf-8")
    except OSError as error:
        raise BadInput(
            f"the detail of {item} could not be kept: {error.strerror or error}",
            given=place,
            fix="make room, or pass a folder that can be written to",
        ) from error
    return place / f"{item}.nc"


def read_tokens(folder: str | Path) -> dict[str, Tokens]:
    """Read what :func:`keep_tokens` kept, by item; nothing kept is an empty answer."""
    import xarray as xr

    found = {}
    place = Path(folder) / FOLDER
    for path in sorted(place.glob("*.json")):
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            with xr.open_dataset(path.with_suffix(".nc"), engine="h5netcdf") as opened:
                detail = opened.load()
            clips = {name: place / "clips" / file for name, file in about["clips"].items()}
        except (OSError, ValueError, KeyError) as error:
            raise DamagedStore(
                f"the token-level detail {path.stem} cannot be read: {error}",
                given=path,
                fix="remove its two files, or make them again with `attnlens report --tokens`",
            ) from error
        # Strings come back from netCDF as objects.
        texts = {
            name: (detail[name].dims, detail[name].values.astype(str))
            for name in ("token_text", "key_text", "key_label")
        }
        detail = detail.assign({name: value for name, value in texts.items() if name in detail})
        found[path.stem] = Tokens(path.stem, validate_detail(detail, item=path.stem), about, clips)
    return found


def _kept(place: Path, audio: Audio) -> str:
    """Write a clip once, however many prompts it stands in, in a format that every browser plays."""
    import soundfile

    from attnlens.context.prompt import stable_hash

    name = f"{stable_hash(audio.digest)}.ogg"
    if not (place / name).exists():
        soundfile.write(place / name, audio.load(), RATE, format="OGG", subtype="OPUS")
    return name
