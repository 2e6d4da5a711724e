"""Answering one client request, from its head to its answer; ``service.py`` shows the steps.

Knows ports and the domain, no adapter and no socket.
"""
