"""conda channels: repodata, shards (CEP 16), rewriting."""
