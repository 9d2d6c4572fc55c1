"""Sequences without labels: an autoencoder."""
