"""Masks in Label Studio's own form."""
