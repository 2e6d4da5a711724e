"""The HTTP client behind ports/upstream.py, blind tunnels, the user's proxies and roots.

Nothing is imported here: ``trust`` and ``proxies`` are needed before the child starts.
"""
