"""Images in: sources, decoding, fitting into the network's input, batches."""
