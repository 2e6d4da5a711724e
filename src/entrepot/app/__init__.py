"""The use cases. Knows ports and the domain, no adapter."""
