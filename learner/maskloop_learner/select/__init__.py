"""Strategies that choose what to label next."""
