"""The whole way, on throw-away hosts of their own; each module is a story."""
