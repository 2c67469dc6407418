"""A network as a program: what it computes, and what depends on what."""
