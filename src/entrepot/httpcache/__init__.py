"""A sans-IO HTTP cache: RFC 9110, 9111, 5861, 9211, 9213. No sockets, files, clock or logger."""
