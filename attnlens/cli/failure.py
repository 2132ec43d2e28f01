"""An error as a stranger should read it: one block, the thing named, what is allowed, what to do."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import pairwise

import typer

from attnlens.cli.output import out
from attnlens.errors import AttnlensError, BadInput, UnknownName, closest, listing

__all__ = ["explain", "report"]


def report(error: AttnlensError) -> None:
    """Print an expected error to stderr."""
    if out.json:
        fields = {"kind": error.kind, "message": error.message, **error.details()}
        sys.stderr.write(json.dumps({"error": fields}, ensure_ascii=False) + "\n")
        return
    red, plain = ("\033[1;31m", "\033[0m") if sys.stderr.isatty() else ("", "")
    sys.stderr.write(f"{red}error[{error.kind}]:{plain} {error}\n")


def explain(error: typer.TyperException, arguments: Sequence[str] = ()) -> AttnlensError:
    """Turn a complaint of the command-line parser into one of ours, with what was allowed and what was meant."""
    context = getattr(error, "ctx", None)
    message = error.format_message()
    sentence = message[:1].lower() + message[1:].rstrip(".")
    if context is None:
        return BadInput(sentence)
    help_ = f"see `{context.command_path} --help`"
    option = getattr(error, "option_name", None)
    if "o such option" in message and option:
        flags = sorted(
            {flag for parameter in context.command.params for flag in parameter.opts if flag.startswith("--")}
        )
        near = closest(option, flags)
        return UnknownName(
            f"unknown flag {option!r} of `{context.command_path}`",
            present=listing([*flags, "--help"]),
            fix=f"did you mean {near!r}?" if near else help_,
        )
    if "o such command" in message:
        commands = sorted(getattr(context.command, "commands", {}))
        return UnknownName.among("command", message.split("'")[1], commands, fix=help_)
    return BadInput(sentence, given=_value_after(sentence, arguments), fix=help_)


def _value_after(sentence: str, arguments: Sequence[str]) -> str | None:
    # The parser says which flag it could not read, and keeps the value to itself.
    for flag, value in pairwise(arguments):
        if f"'{flag}'" in sentence:
            return value
    return None
