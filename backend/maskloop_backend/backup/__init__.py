"""Backups of an installation: a folder or a tar file with the pool, its blobs and the home folder's small files."""
