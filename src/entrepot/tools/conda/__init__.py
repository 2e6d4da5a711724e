"""conda's client setup, mamba's and micromamba's with it: they read the same files."""
