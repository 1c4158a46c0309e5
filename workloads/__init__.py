"""What runs: shapes of language models, checkpoints, pruning, quantisation and measured accuracy, ending in traces."""
