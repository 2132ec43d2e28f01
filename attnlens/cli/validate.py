"""``attnlens validate``: is this description of a run sound, and what does it resolve to?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnlens.cli import options
from attnlens.cli.output import out

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["validate"]


def validate(
    spec: options.SpecFile = None,
    *,
    model: options.Model = None,
    corpora: options.Corpora = None,
    conditions: options.Conditions = None,
    shots: options.Shots = None,
    retriever: options.Retriever = None,
    controls: options.Controls = None,
    seeds: options.Seeds = None,
    set_: options.Set = None,
) -> None:
    """Check a spec and print it resolved, with every default spelled out and its hash. Nothing is loaded or run.

    Examples: `attnlens validate spec.yaml`, `attnlens validate --shots 0,16 --set context.order=random`
    """
    resolved = options.resolve(
        spec,
        sets=set_,
        model=model,
        corpora=corpora,
        conditions=conditions,
        shots=shots,
        retriever=retriever,
        controls=controls,
        seeds=seeds,
    )

    def render(console: Console) -> None:
        from attnlens.run.load import dump_spec

        console.out(f"# sound; hash {resolved.hash}", highlight=False)
        console.out(dump_spec(resolved), end="", highlight=False)

    out.emit({"hash": resolved.hash, "spec": resolved.to_dict()}, render)
