"""Looking after any cache: what is in it, what may go, whether it is whole.

Knows ports and the domain, no adapter.
"""

NAME = "entrepot"
"""What entrepot's own store is called among the tools."""
