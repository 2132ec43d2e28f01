"""Is it real, and how large? Intervals, permutation tests, corrections for many tests, effect sizes, power.

Plain arrays in, plain frozen results out: axis 0 of every array is the items (utterances), the axes behind it (layers,
heads) are cells that are all treated at once. Here belongs what needs no knowledge of models or prompts; nulls that
need a trace's labels draw them elsewhere and are judged by :mod:`attnlens.stats.null`.
"""
