"""nginx: its configuration, and the connections that it has."""
