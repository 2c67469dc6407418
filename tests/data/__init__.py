"""Model files of released versions, which every later one has to read."""
