"""The verbs, a file each: what is put here is a verb of `slipway`."""
