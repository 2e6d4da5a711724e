"""How each client is told to go through the proxy: one engine and a module a tool."""
