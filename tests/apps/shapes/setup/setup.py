"""A project as they were before pyproject.toml."""

from setuptools import setup

setup(name="greeting", version="1.0", packages=["greeting"])
