"""mamba and micromamba: where their packages are and what lies there."""
