"""The client setup of conda, mamba and micromamba: they read the same files."""
