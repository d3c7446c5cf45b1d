"""Keeps the pool and Label Studio equal: pulls tasks and labels, pushes predictions, starts trainings."""
