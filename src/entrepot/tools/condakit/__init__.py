"""What the rooms of conda, mamba and rattler share.

The layout of package caches, condarc, environments. It is no tool itself.
"""
