"""What all settings have in common."""

from pydantic import BaseModel, ConfigDict

LIST_DO = 'write a list in square brackets, such as ["a", "b"]'
"""What to do about what should be a list."""


class Model(BaseModel):
    """Settings of one subject: strict, frozen, and every unknown key refused."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")
