"""Answering one client request, from its head to its answer.

Knows ports and the domain, no adapter.
"""
