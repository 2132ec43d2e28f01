"""How long do `attnlens --help` and `import attnlens` take, against a bare interpreter? `python benchmarks/startup.py`

Whole processes, taken in turn so that a drift of the machine hits all of them; medians, and ratios of medians.
"""

import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import attnlens": [sys.executable, "-c", "import attnlens"],
    "attnlens --help": [sys.executable, "-m", "attnlens", "--help"],
    "attnlens ls models": [sys.executable, "-m", "attnlens", "ls", "models"],
    "attnlens validate": [sys.executable, "-m", "attnlens", "validate"],
}
LIMITS = {"import attnlens": 0.3, "attnlens --help": 0.5}
ROUNDS = 11


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    for command in COMMANDS.values():
        seconds(command)
    times = {name: [] for name in COMMANDS}  # type: dict[str, list[float]]
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))
    medians = {name: statistics.median(all_) for name, all_ in times.items()}
    bare = medians["python -c pass"]
    print(f"{'command':22} {'median s':>9} {'min s':>7} {'x bare':>7} {'limit s':>8}")
    for name, median in medians.items():
        limit = f"{LIMITS[name]:8.1f}" if name in LIMITS else " " * 8
        print(f"{name:22} {median:9.3f} {min(times[name]):7.3f} {median / bare:7.1f} {limit}")
    late = [name for name, limit in LIMITS.items() if medians[name] > limit]
    sys.exit(f"over the limit: {', '.join(late)}" if late else 0)


if __name__ == "__main__":
    main()
