"""The ways into this host."""
