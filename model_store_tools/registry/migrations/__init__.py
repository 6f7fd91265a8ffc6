"""How a registry's schema came to be, step by step (Alembic). Shipped with the package and run when a registry is opened."""
