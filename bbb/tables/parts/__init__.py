"""Parts of a `TabularModel`: what is read from its file, and the scores of its predictions."""
