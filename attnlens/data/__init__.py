"""Speech in: utterances, corpora and their readers, audio decoding, text normalisers, leakage checks.

Here belongs what is true of recordings and transcripts before any model reads them. What a model is shown is made
of these in :mod:`attnlens.context`; error rates belong to the ASR room.
"""
