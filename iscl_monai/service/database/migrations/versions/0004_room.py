"""How much room decoded pixels take, how much a job needs, and how often it was put off for want of it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; of what came before only the compressed size is known."""
    op.add_column("instances", sa.Column("decoded_bytes", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("needed_bytes", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("room_tries", sa.Integer(), nullable=False, server_default="0"))
    op.execute(
        "UPDATE jobs SET needed_bytes = COALESCE((SELECT SUM(instances.size) FROM instances JOIN job_sources"
        " ON job_sources.instance_id = instances.id WHERE job_sources.job_id = jobs.id), 0)"
    )
