"""Index the notes by creation time, for the list that starts with the newest.

Revision: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this revision."""
    op.create_index("ix_notes_created_at", "notes", ["created_at"])


def downgrade() -> None:
    """Take this revision back."""
    op.drop_index("ix_notes_created_at", table_name="notes")
