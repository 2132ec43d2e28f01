"""A traced dataset is ready for use: its views are there without another import."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
from types import SimpleNamespace
from attnlens.models.trace_dataset import assembled
from attnlens.testing import trace
made = trace(items=2)
assert "attnlens.traces.accessor" not in sys.modules
target = SimpleNamespace(id="u")
prompt = SimpleNamespace(target=target, condition="micl", shots=2, applied=(), digest="0")
dataset = assembled(
    [{name: made[name].values[item] for name in made.data_vars} for item in range(2)],
    [prompt, prompt],
    coordinates={name: made[name].values for name in ("layer", "head", "query")},
    intervention="none",
    seed=0,
    attributes=made.attrs,
)
assert (dataset.attnlens.bias().values == made.attnlens.bias().values).all()
"""


def test_what_is_traced_has_the_accessor() -> None:
    told = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
