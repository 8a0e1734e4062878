"""Which neuron to split."""
