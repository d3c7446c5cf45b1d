"""Losses, the training loop, the gate and the registry of models."""
