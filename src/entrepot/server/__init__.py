"""The doors: HTTP and CONNECT on a socket, certificates, answers."""
