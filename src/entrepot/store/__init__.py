"""Adapters of ports/store.py and ports/catalogue.py."""
