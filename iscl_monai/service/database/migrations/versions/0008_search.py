"""What series are searched by."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; of series that came before, numbers and dates are not known."""
    op.add_column("series", sa.Column("study_date", sa.String(length=8), nullable=False, server_default=""))
    op.add_column("series", sa.Column("patient_key", sa.String(length=64), nullable=False, server_default=""))
    op.add_column("series", sa.Column("accession_key", sa.String(length=64), nullable=False, server_default=""))
    op.create_index("series_by_study_date", "series", ["study_date"], unique=False)
    op.create_index("series_by_patient", "series", ["patient_key"], unique=False)
    op.create_index("series_by_accession", "series", ["accession_key"], unique=False)
