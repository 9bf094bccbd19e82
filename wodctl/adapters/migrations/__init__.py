"""The database's structure and how it came to be: one file of SQL statements for each step, for Alembic."""
