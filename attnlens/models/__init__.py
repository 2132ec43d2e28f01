"""Hookable wrappers of speech language models: one small file per family, holding only what differs.

Here belongs what is particular to a family: its tokens, its audio lengths, its layers, its quirks. What a prompt says
belongs to :mod:`attnlens.context`. What is read from the computation gets a room of its own, which knows no family.
"""
