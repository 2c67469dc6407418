"""The command `bbb`."""
