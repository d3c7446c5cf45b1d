"""The floor that learns: model, prediction, training and the pool of images."""

__version__ = "0.1.0"
