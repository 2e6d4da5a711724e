"""The tools, one package each: places, settings, cache, child.

A tool knows ports and the domain, nothing else.
"""
