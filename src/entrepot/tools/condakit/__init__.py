"""What conda, mamba and rattler share.

The layout of package caches, condarc, environments. It is not a tool itself.
"""
