"""Conda channels: their indexes read (repodata, shards), and what each says of the archives it lists. Pure, but that `worker.py` reads large ones in a
process beside."""
