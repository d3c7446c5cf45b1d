"""`python -m maskloop_backend` is the `maskloop` command."""

from maskloop_backend.cli import main

main()
