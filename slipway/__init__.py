"""What Slipway adds to pyinfra itself: a connector that needs few round trips, and the command `slipway`."""
