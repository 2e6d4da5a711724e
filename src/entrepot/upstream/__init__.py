"""Adapters of ports/upstream.py, and what belongs to reaching upstream.

Proxies, roots, blind tunnels.

``client.open_upstream`` makes the client, ``tunnel.open_tunnel`` a raw stream,
``proxies.ProxyRules`` reads the user's proxies and ``trust.merged_bundle`` the user's roots.
Nothing is imported here: ``trust`` and ``proxies`` stay light.
"""
