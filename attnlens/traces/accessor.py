"""``dataset.attnlens``: the views as methods, for interactive work. Importing this module registers it."""

from __future__ import annotations

import xarray as xr

from attnlens.traces import views

__all__ = ["TraceAccessor"]


@xr.register_dataset_accessor("attnlens")  # type: ignore[no-untyped-call]
class TraceAccessor:
    """Look at a trace without imports; every method is the view of the same name.

    >>> from attnlens.testing import trace
    >>> made = trace()
    >>> made.attnlens.bias().identical(made.attnlens.view("bias"))
    True
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        self._dataset = dataset

    def view(self, name: str) -> xr.DataArray:
        """See :func:`attnlens.traces.views.view`."""
        return views.view(self._dataset, name)

    def raw(self) -> xr.DataArray:
        """See :func:`attnlens.traces.views.raw`."""
        return views.raw(self._dataset)

    def sinkless(self) -> xr.DataArray:
        """See :func:`attnlens.traces.views.sinkless`."""
        return views.sinkless(self._dataset)

    def density(self) -> xr.DataArray:
        """See :func:`attnlens.traces.views.density`."""
        return views.density(self._dataset)

    def log_ratio(self) -> xr.DataArray:
        """See :func:`attnlens.traces.views.log_ratio`."""
        return views.log_ratio(self._dataset)

    def bias(self) -> xr.DataArray:
        """See :func:`attnlens.traces.views.bias`."""
        return views.bias(self._dataset)
