"""Speaks to Label Studio: client, label config, tokens, and the connecting of a project."""
