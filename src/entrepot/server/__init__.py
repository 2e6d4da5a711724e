"""The proxy of a run: a listening socket, certificates, CONNECT, TLS and HTTP/1.1 on it."""
