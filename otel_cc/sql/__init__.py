"""A statement leaves for the database: its comment, its CLIENT span and its duration."""
