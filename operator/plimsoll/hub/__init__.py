"""The Hugging Face Hub: facts of models, cached, with every failure told apart."""
