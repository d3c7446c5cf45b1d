"""What a project lead wants to know of a project, read from the pool as plain data. Knows no web: pages show it."""
