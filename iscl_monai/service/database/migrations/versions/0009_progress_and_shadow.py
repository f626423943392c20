"""How far a running job is, and whether a job was made by a shadow rule."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("jobs", sa.Column("progress", sa.JSON(), nullable=True))
    op.add_column("jobs", sa.Column("shadow", sa.Integer(), nullable=False, server_default="0"))
