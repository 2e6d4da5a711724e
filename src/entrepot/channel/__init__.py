"""Conda channels: their indexes read (repodata, shards), and what each says of the archives it lists. Pure; no I/O."""
