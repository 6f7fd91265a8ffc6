"""Owner, claims, copies, traces."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Make the four tables."""
    op.create_table(
        "ptynet_owner",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_ptynet_owner_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ptynet_owner")),
    )
    op.create_table(
        "ptynet_claims",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("copies", sa.Integer(), nullable=False),
        sa.Column("traces", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_ptynet_claims")),
    )
    op.create_table(
        "ptynet_copies",
        sa.Column("claim", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("customer", sa.Text(), nullable=False),
        sa.Column("ticket", sa.String(32), nullable=False),
        sa.Column("reserved_at", sa.String(32), nullable=False),
        sa.Column("issued_at", sa.String(32)),
        sa.Column("archive", sa.Text()),
        sa.Column("format", sa.String(32)),
        sa.Column("digest", sa.String(64)),
        sa.Column("revoked_at", sa.String(32)),
        sa.Column("revoked_because", sa.Text()),
        sa.CheckConstraint("number >= 1", name=op.f("ck_ptynet_copies_number")),
        sa.CheckConstraint(
            "(issued_at IS NULL) = (digest IS NULL) AND (issued_at IS NULL) = (archive IS NULL)",
            name=op.f("ck_ptynet_copies_issued_whole"),
        ),
        sa.CheckConstraint(
            "(revoked_at IS NULL) = (revoked_because IS NULL)", name=op.f("ck_ptynet_copies_revoked_whole")
        ),
        sa.ForeignKeyConstraint(["claim"], ["ptynet_claims.digest"], name=op.f("fk_ptynet_copies_claim")),
        sa.PrimaryKeyConstraint("claim", "number", name=op.f("pk_ptynet_copies")),
    )
    op.create_index(
        "ix_ptynet_copies_one_per_customer",
        "ptynet_copies",
        ["claim", "customer"],
        unique=True,
        sqlite_where=sa.text("revoked_at IS NULL"),
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    op.create_table(
        "ptynet_traces",
        sa.Column("claim", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("started_at", sa.String(32), nullable=False),
        sa.Column("finished_at", sa.String(32)),
        sa.Column("verdict", sa.String(32)),
        sa.Column("accused", sa.Text()),
        sa.CheckConstraint("number >= 1", name=op.f("ck_ptynet_traces_number")),
        sa.ForeignKeyConstraint(["claim"], ["ptynet_claims.digest"], name=op.f("fk_ptynet_traces_claim")),
        sa.PrimaryKeyConstraint("claim", "number", name=op.f("pk_ptynet_traces")),
    )
