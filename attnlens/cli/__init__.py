"""The command line: one file per sub-command, thin.

A command parses, calls one function of a room below, and prints. What is worth testing without a terminal belongs
below. Heavy libraries are imported inside the command that needs them, so that help answers at once.
"""
