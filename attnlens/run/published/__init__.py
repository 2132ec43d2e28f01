"""Published numbers beside ours: what others printed, what a run measured, and where the two were computed differently.

Here belong numbers as they were printed, in data files with their source, and the reading of a run directory in the
same coordinates. A package adds the numbers of other papers through the entry-point group ``attnlens.published``.
"""
