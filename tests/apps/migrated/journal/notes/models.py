"""A note."""

from django.db import models


class Note(models.Model):
    """A note."""
