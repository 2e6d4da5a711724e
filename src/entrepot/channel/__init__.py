"""Conda channels: their indexes (repodata, shards) read and rewritten, and what each says of the archives it lists.

Pure, but that ``worker.py`` reads large ones in a process beside.
"""
