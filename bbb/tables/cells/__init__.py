"""The cells of CSV files: the marks between and in them, and what they hold."""
