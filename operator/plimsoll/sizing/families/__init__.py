"""One module per family of architectures: from a config to layers and tensors."""
