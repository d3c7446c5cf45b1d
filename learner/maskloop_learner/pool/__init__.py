"""The pool: what Maskloop knows of images, tasks, labels and predictions."""
