"""A project's state as one HTML file that needs nothing else: gathered from the pool, told in words, drawn."""
