"""What a capture leaves behind: the schema of a trace, where it is stored, how it is looked at.

Here belong dimensions, validation, the store and the views. How the numbers are measured belongs to
:mod:`attnlens.capture`; what is concluded from them to the statistics and the plots.
"""
