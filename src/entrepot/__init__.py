"""One package cache for pip, conda, uv, mamba and pixi. The public names; no logic."""

__all__ = ["__version__"]

__version__ = "0.1.0"
