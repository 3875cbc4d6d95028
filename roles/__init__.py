"""The parts of a host: one role a module, each a function of typed settings that decides from the host's state."""
