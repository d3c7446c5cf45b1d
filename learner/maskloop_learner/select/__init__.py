"""Which images are labelled next: strategies over scores and embeddings, and what they are worth."""
