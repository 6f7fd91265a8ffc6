"""Certificates and the customers' countersignatures."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add what a certificate brings to every copy."""
    op.add_column("ptynet_copies", sa.Column("certificate", sa.String(64)))
    op.add_column("ptynet_copies", sa.Column("countersigner", sa.String(64)))
    op.add_column("ptynet_copies", sa.Column("countersignature", sa.String(128)))
    op.add_column("ptynet_copies", sa.Column("countersigned_at", sa.String(32)))
