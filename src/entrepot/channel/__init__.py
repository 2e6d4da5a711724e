"""Conda channels: their indexes (repodata, shards) read and rewritten. Pure: bytes to values."""
