"""create notes"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    """Make the table."""
    op.create_table("notes", sa.Column("id", sa.Integer(), primary_key=True))


def downgrade():
    """Remove it."""
    op.drop_table("notes")
