"""Pydantic's findings in our words: the key, what it may be, what was probably meant."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from attnlens.errors import AttnlensError, BadInput, closest, listing

__all__ = ["refusal"]


def refusal(model: type[BaseModel], error: ValidationError) -> BadInput:
    """Turn a validation error of ``model`` into one readable refusal; several findings become several lines."""
    findings = {_key(item["loc"]): item for item in reversed(error.errors())}
    told = [_finding(model, key, item) for key, item in reversed(findings.items())]
    if len(told) == 1:
        return told[0]
    lines = "\n".join(f"  - {one.message}" + (f" ({one.fix})" if one.fix else "") for one in told)
    return BadInput(f"{len(told)} things are wrong with this spec\n{lines}", fix="mend each of them")


def _key(location: tuple[int | str, ...]) -> str:
    # Positions and union branches say where pydantic looked, not what the user wrote.
    return ".".join(part for part in location if isinstance(part, str) and part.isidentifier())


def _finding(model: type[BaseModel], key: str, item: Any) -> BadInput:
    if item["type"] == "extra_forbidden":
        *parents, last = key.split(".")
        fields = list(_section(model, parents).model_fields)
        near = closest(last, fields)
        meant = ".".join([*parents, near]) if near else None
        return BadInput(
            f"unknown key {key!r}",
            present=listing(fields),
            fix=f"did you mean {meant!r}?" if meant else "remove it, or use one of the keys above",
        )
    own = item.get("ctx", {}).get("error")
    if isinstance(own, AttnlensError):
        where = "" if key and own.message.startswith(f"{key}.") else f"{key or 'the spec'}: "
        return BadInput(f"{where}{own.message}", given=own.given, present=own.present, fix=own.fix)
    message = item["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if item["type"] == "literal_error":
        near = closest(str(item["input"]), item["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", "))
        fix = f"did you mean {near!r}?" if near else None
        return BadInput(f"{key or 'the spec'}: {message}", given=repr(item["input"]), fix=fix)
    return BadInput(f"{key or 'the spec'}: {message}", given=None if not key else repr(item["input"]))


def _section(model: type[BaseModel], parents: list[str]) -> type[BaseModel]:
    for parent in parents:
        annotation = model.model_fields[parent].annotation
        candidates = [annotation, *get_args(annotation)]
        model = next(one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel))
    return model
