"""From an image to a mask, its uncertainty and its scores."""
