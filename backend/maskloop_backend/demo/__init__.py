"""The demo: real MRI slices with their truth."""
