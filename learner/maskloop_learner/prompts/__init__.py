"""What the model is asked: templates, where their words come from, and words that would give the answer away."""
