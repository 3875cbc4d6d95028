"""The verbs, a module each: every module here is a verb of `slipway`."""
