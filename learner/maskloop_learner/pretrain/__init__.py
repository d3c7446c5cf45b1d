"""Where nano's first weights come from: images that are computed, and a training on them."""
