"""Which demonstrations a target is shown: retrievers by name, one protocol, never the target itself.

Here belongs the choice of pool items. Their order in the prompt, and what of them is shown, belongs to the prompt.
"""

from attnlens.context.retrieval.base import RETRIEVERS, Query, Ranking, Retriever, Use, make, retrieve

__all__ = ["RETRIEVERS", "Query", "Ranking", "Retriever", "Use", "make", "retrieve"]
