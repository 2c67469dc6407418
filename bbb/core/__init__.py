"""What all packages need: trees, noise, compilation, special functions."""
