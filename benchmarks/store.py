"""Does a large store open at once, and is it reduced within little memory? `python benchmarks/store.py`

100,000 items x 48 layers x 32 heads x 10 sources, simulated: four regions are written for real, by the calls that a
run makes and synced to disk, and timed; the files of all other regions are hard links to theirs. What is read and
decoded is as much as in a full store, but it comes from the page cache: the disk's own speed is not in these figures.
Opening and reducing run in fresh processes, imports apart; their peak memory is the kernel's own figure; `read whole`
is what the masses alone would take.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from attnlens.testing import trace
from attnlens.traces.layout import Layout
from attnlens.traces.writing import TraceStore

ITEMS, LAYERS, HEADS, DEMOS, REAL = 100_000, 48, 32, 4, 4
SECONDS_TO_OPEN, GIGABYTES = 1.0, 2.0

REDUCE = {
    "by_blocks": "by_blocks(opened(), lambda part: bias(part).mean('head')).mean('item')",
    "dask": "bias(opened()).mean(['head', 'item']).compute()",
}
READER = """
import json, resource, sys, time
import dask.array, xarray, zarr, attnlens.traces.accessor, attnlens.traces.store
from attnlens.traces.blocks import by_blocks
from attnlens.traces.reading import open_traces
from attnlens.traces.views import bias
path, lazy, code = sys.argv[1:]
told = {}
def opened():
    start = time.perf_counter()
    dataset = open_traces(path, lazy=lazy)
    told["open"] = time.perf_counter() - start
    told["items"] = dataset.sizes["item"]
    return dataset
start = time.perf_counter()
curve = eval(code)
told["reduce"] = time.perf_counter() - start - told["open"]
told["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
told["layers"] = curve.sizes["layer"]
told["whole"] = bool(curve.notnull().all())
print(json.dumps(told))
"""


def planned() -> tuple[Layout, int]:
    text = [f"item-{index:08x}" for index in range(ITEMS)]
    made = trace(items=1, layers=LAYERS, heads=HEADS, demos=DEMOS)
    columns = dict.fromkeys(("item", "utterance", "prompt"), text)
    columns |= {name: ["micl"] * ITEMS for name in ("condition", "control", "intervention")}
    layout = Layout.like(made, spec_hash="simulated", items=columns | {"shots": [DEMOS] * ITEMS, "seed": [0] * ITEMS})
    return layout, layout.region_size


def write(store: TraceStore, size: int) -> dict[str, float]:
    made = trace(items=size * REAL, layers=LAYERS, heads=HEADS, demos=DEMOS)
    names = store.layout.ids[: size * REAL]
    columns = {name: ("item", list(values[: size * REAL])) for name, values in store.layout.items.items()}
    made = made.assign_coords(columns)
    start = time.perf_counter()
    for row in range(size):
        store.write(made.isel(item=[row]), items=names[row : row + 1])
    single = time.perf_counter() - start
    start = time.perf_counter()
    for region in range(1, REAL):
        rows = slice(region * size, (region + 1) * size)
        store.write(made.isel(item=rows), items=names[rows])
    together = time.perf_counter() - start
    return {"one by one": single / size, "a region at once": together / (REAL - 1) / size}


def link(store: TraceStore, size: int) -> int:
    regions = ITEMS // size
    assert regions * size == ITEMS, "whole regions, so that all files of a kind are equal in size"
    count = 0
    for name in [*store.layout.places, "digest"]:
        folder = store.path / name
        for file in sorted(folder.glob("c.*")):
            number, _, rest = file.name.removeprefix("c.").partition(".")
            for region in range(int(number) + REAL, regions, REAL):
                os.link(file, folder / f"c.{region}{'.' if rest else ''}{rest}")
                count += 1
    return count


def read(path: Path, lazy: str, code: str) -> dict[str, float]:
    command = [sys.executable, "-c", READER, str(path), lazy, code]
    page = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(page.stdout))


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        layout, size = planned()
        start = time.perf_counter()
        store = TraceStore.create(folder / "traces.zarr", layout)
        created = time.perf_counter() - start
        written = write(store, size)
        count = link(store, size)
        whole = ITEMS * LAYERS * HEADS * 10 * 4 / 1e9
        print(f"{ITEMS:,} items x {LAYERS} layers x {HEADS} heads x 10 sources, {DEMOS} demonstrations;")
        print(f"{ITEMS // size:,} regions of {size} items; {count:,} of the chunks are links")
        print(f"\n{'writing, synced':24} {'ms / item':>10}")
        for name, seconds in written.items():
            print(f"{name:24} {1000 * seconds:10.1f}")
        print(f"{'creating the store':24} {1000 * created:10.1f} ms in all")
        print(f"\n{'reading':24} {'open s':>8} {'reduce s':>9} {'peak GB':>8}")
        late = []
        for name, code in REDUCE.items():
            told = read(store.path, "dask" if name == "dask" else "zarr", code)
            assert told["items"] == ITEMS
            assert told["layers"] == LAYERS
            assert told["whole"]
            print(f"{'layer curve, ' + name:24} {told['open']:8.2f} {told['reduce']:9.1f} {told['memory']:8.2f}")
            late += [f"{name} opens in {told['open']:.2f} s"] if told["open"] > SECONDS_TO_OPEN else []
            late += [f"{name} takes {told['memory']:.2f} GB"] if told["memory"] > GIGABYTES else []
        print(f"{'read whole':24} {'':8} {'':9} {whole:8.2f}")
        print(f"{'limits':24} {SECONDS_TO_OPEN:8.2f} {'':9} {GIGABYTES:8.2f}")
    finally:
        shutil.rmtree(folder)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak of the writing process: {own:.2f} GB")
    sys.exit(f"over the limit: {', '.join(late)}" if late else 0)


if __name__ == "__main__":
    main()
