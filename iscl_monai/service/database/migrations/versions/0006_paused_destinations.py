"""Destinations that a person has paused."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "paused_destinations",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("paused_by", sa.String(length=64), nullable=False),
        sa.Column("paused_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
