"""Whether a job is held when its series is unlike the training; jobs made before are not."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("jobs", sa.Column("hold_unlike", sa.Integer(), nullable=False, server_default="0"))
