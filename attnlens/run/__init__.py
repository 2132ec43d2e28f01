"""One typed description of a run, the plan made of it, and what carries the plan out.

Here belong the spec, work items, executors and provenance. What an item computes belongs to the rooms below; this one
decides what is computed, where, in which order, and what is written beside the result.
"""
