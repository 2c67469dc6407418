"""One step of training: its state, its batches, its noise, its update."""
