"""Adapters of ports/upstream.py."""
