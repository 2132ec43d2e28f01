"""What turns maps of attention into findings: cuts, ablations, patches, null models, and claims that could have failed.

Here belongs whatever runs a model again, or permutes what a trace holds, to ask whether a finding would have come out
anyway. The statistics are those of :mod:`attnlens.stats`; what is changed inside a model is done by the lens.
"""
