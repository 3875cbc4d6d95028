"""Measurements on throw-away hosts: figures for people, no tests."""
