"""The tools, one room each: places, settings, cache, child.

A tool knows ports and the domain, nothing else.
"""
