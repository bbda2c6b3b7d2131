"""Training: data checked and cut into batches, the loop over epochs, the progress display."""
