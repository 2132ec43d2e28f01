"""Which attention modules are watched, and what each of them is: routing is by module, never by the order of calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from torch import nn

from attnlens.errors import BadInput

__all__ = ["KINDS", "Kind", "Site", "Sites"]

Kind = Literal["self", "cross", "encoder"]
KINDS: tuple[Kind, ...] = ("self", "cross", "encoder")


class Site(NamedTuple):
    """One place where attention happens: a layer number and whether it looks at itself, at an encoder, or is one."""

    layer: int
    kind: Kind

    def __str__(self) -> str:
        return f"layer {self.layer} ({self.kind})"


@dataclass(frozen=True, eq=False)
class Sites:
    """The attention modules of one model, for :func:`attnlens.capture.attention.capture`; build it with :meth:`of`.

    ``decoder`` is the module whose forward takes ``past_key_values`` and says how many tokens have been seen; None for
    a model that has only an encoder. ``projections`` are the output projections, needed for contributions.
    ``final_norm``, ``unembedding``, ``post_norms`` and ``residual_multiplier`` describe the way from a layer's
    attention output to the logits, needed for the direct effect on a logit.
    """

    decoder: nn.Module | None
    modules: Mapping[Site, nn.Module]
    projections: Mapping[Site, nn.Module] = field(default_factory=dict)
    final_norm: nn.Module | None = None
    unembedding: nn.Module | None = None
    post_norms: Mapping[Site, nn.Module] = field(default_factory=dict)
    residual_multiplier: float = 1.0

    def __post_init__(self) -> None:
        by_id: dict[int, Site] = {}
        for site, module in self.modules.items():
            twin = by_id.setdefault(id(module), site)
            if twin != site:
                raise BadInput(
                    "one attention module stands for two layers, so that calls cannot be told apart",
                    given=f"{type(module).__name__} as {twin} and as {site}",
                    fix="pass each layer's own attention module once",
                )
        object.__setattr__(self, "_by_id", by_id)

    @classmethod
    def of(
        cls,
        decoder: nn.Module | None,
        *,
        layers: Sequence[nn.Module] = (),
        cross: Sequence[nn.Module] = (),
        encoder: Sequence[nn.Module] = (),
        output_projections: Mapping[Kind, Sequence[nn.Module]] | Sequence[nn.Module] = (),
        final_norm: nn.Module | None = None,
        unembedding: nn.Module | None = None,
        post_norms: Sequence[nn.Module] = (),
        residual_multiplier: float = 1.0,
    ) -> Sites:
        """Number the attention modules of a model in the order of its layers.

        ``output_projections`` is a sequence for the self-attention layers, or one sequence per kind. ``post_norms``
        are norms between a layer's output projection and the residual stream (Gemma has them).

        >>> attention = [nn.Identity(), nn.Identity()]
        >>> sites = Sites.of(nn.Identity(), layers=attention)
        >>> sites.find(attention[1])
        Site(layer=1, kind='self')
        >>> sites.layers("self")
        (0, 1)
        """
        if decoder is None and (layers or cross):
            raise BadInput(
                "decoder layers are given without the decoder that owns them",
                given="decoder=None",
                fix="pass the module whose forward takes past_key_values",
            )
        rows: dict[Kind, Sequence[nn.Module]] = {"self": layers, "cross": cross, "encoder": encoder}
        modules = {Site(layer, kind): one for kind, all_ in rows.items() for layer, one in enumerate(all_)}
        if not modules:
            raise BadInput("no attention module is given", fix="pass layers=, cross= or encoder=")
        given: Mapping[Kind, Sequence[nn.Module]]
        given = output_projections if isinstance(output_projections, Mapping) else {"self": output_projections}
        return cls(
            decoder=decoder,
            modules=modules,
            projections=dict(_aligned("output projections", given, rows)),
            final_norm=final_norm,
            unembedding=unembedding,
            post_norms=dict(_aligned("post-attention norms", {"self": post_norms}, rows)),
            residual_multiplier=residual_multiplier,
        )

    def find(self, module: nn.Module) -> Site | None:
        """Return the site of an attention module, or None when it is not watched."""
        by_id: dict[int, Site] = self.__dict__["_by_id"]
        return by_id.get(id(module))

    def layers(self, kind: Kind) -> tuple[int, ...]:
        """Return the layer numbers of one kind, in order."""
        return tuple(sorted(site.layer for site in self.modules if site.kind == kind))


def _aligned(
    what: str, given: Mapping[Kind, Sequence[nn.Module]], rows: Mapping[Kind, Sequence[nn.Module]]
) -> Iterator[tuple[Site, nn.Module]]:
    for kind, modules in given.items():
        if modules and len(modules) != len(rows[kind]):
            raise BadInput(
                f"the {what} do not match the {kind} layers one to one",
                given=f"{len(modules)} {what}",
                present=f"{len(rows[kind])} layers",
                fix="pass one per layer, in order",
            )
        for layer, module in enumerate(modules):
            yield Site(layer, kind), module
