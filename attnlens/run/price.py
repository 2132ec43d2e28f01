"""What a spec will cost, by the sizes of its model and corpora, here or published: runs by items, others by steps."""

from __future__ import annotations

from attnlens.asr.rerank_spec import RerankSpec
from attnlens.errors import BadInput
from attnlens.run.ablation_spec import AblationSpec
from attnlens.run.estimate import Estimate, estimate
from attnlens.run.forecast import Forecast, SizedModel
from attnlens.run.kinds import AnySpec
from attnlens.run.plan import Plan, make_plan
from attnlens.run.spec import RunSpec
from attnlens.run.stand_in import find_or_stand_in
from attnlens.train.spec import TrainSpec

__all__ = ["forecast", "price_run"]


def price_run(spec: RunSpec) -> tuple[Plan, Estimate, list[str]]:
    """Plan a run without weights and reckon it; remarks say what stands in for something that is not here.

    >>> spec = RunSpec(data={"corpora": "corpora/mboshi", "limit": 2}, context={"conditions": "micl", "shots": "1"})
    >>> plan, cost, remarks = price_run(spec)
    >>> cost.items, remarks[0][:28]
    (2, 'corpora/mboshi is not here: ')
    """
    model = SizedModel.of(spec.model.name, dtype=spec.model.dtype, revision=spec.model.revision)
    found, remarks = find_or_stand_in(spec.data.corpora, on_bad=spec.data.on_bad)
    if remarks:
        # Clips of one length: which of them are shown, and what was heard of them, changes no price.
        spec = spec.updated({"data.hypotheses": None, "context.retriever": "first"})
    made = make_plan(spec, front=model.front, corpora=found)
    return made, estimate(made, front=model.front), [*model.remarks, *remarks]


def forecast(spec: AnySpec, *, measure: bool = False) -> Forecast:
    """Reckon what re-ranking, ablating or training costs; with ``measure`` the model is loaded and timed.

    >>> cost = forecast(RerankSpec(corpora=["corpora/mboshi"], limit=2, selector=None)).cost
    >>> cost.items, cost.memory is None
    (4, True)
    """
    if isinstance(spec, RerankSpec):
        from attnlens.run.forecast_rerank import forecast_rerank

        return forecast_rerank(spec, measure=measure)
    if isinstance(spec, AblationSpec):
        from attnlens.run.forecast_ablation import forecast_ablation

        return forecast_ablation(spec, measure=measure)
    if isinstance(spec, TrainSpec):
        from attnlens.run.forecast_training import forecast_training

        return forecast_training(spec, measure=measure)
    raise BadInput("a run is priced from its items", given="a run spec", fix="call price_run")
