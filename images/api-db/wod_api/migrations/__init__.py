"""The database's structure and how it came to be."""
