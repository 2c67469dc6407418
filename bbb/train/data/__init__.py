"""What is trained on: arrays of all rows, or a stream of batches."""
