"""Fixtures that every test file may use; each kind lives in a module of its own."""

pytest_plugins = [
    "postgres_fixture",
    "pool_fixture",
    "command_fixture",
    "valkey_fixture",
    "worker_fixture",
    "web_fixture",
    "labelstudio_fixture",
    "s3_fixture",
    "matrix_fixture",
    "demo_fixture",
    "browser_fixture",
    "official_fixture",
]
