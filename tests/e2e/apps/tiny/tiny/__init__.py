"""The app that the end-to-end tests release."""
