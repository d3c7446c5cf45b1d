"""Make the passwords of docker-compose.yml, as files in ./secrets (or another folder): python scripts/make_secrets.py

Files that are there stay as they are. The folder is its owner's alone; the files in it may be read by all, since each
container reads them as a user of its own.
"""

import secrets
import sys
from pathlib import Path

VALKEY = """\
requirepass {password}
dir /data
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
"""
LABEL_STUDIO = """\
export POSTGRE_PASSWORD={password}
export LABEL_STUDIO_USERNAME=admin@example.com
export LABEL_STUDIO_PASSWORD={first}
"""


def passwords(folder: Path) -> dict[str, str]:
    """Name -> password of the databases' users; those in the folder count."""
    names = ("postgres_password", "maskloop_password", "labelstudio_password")
    return {name: _read(folder / name) or secrets.token_urlsafe(32) for name in names}


def contents(folder: Path) -> dict[str, str]:
    """File -> its text. All of them, also those that are there."""
    known = passwords(folder)
    maskloop, queue = known["maskloop_password"], secrets.token_urlsafe(32)
    lines = (_read(folder / "valkey_conf") or "").splitlines()
    queue = next((line.split()[1] for line in lines if line.startswith("requirepass ")), queue)
    return known | {
        "database_url": f"postgresql://maskloop:{maskloop}@postgres:5432/maskloop",
        "redis_url": f"redis://:{queue}@valkey:6379/0",
        "valkey_conf": VALKEY.format(password=queue),
        "labelstudio_env": LABEL_STUDIO.format(password=known["labelstudio_password"], first=secrets.token_urlsafe(16)),
    }


def _read(path: Path) -> str | None:
    return path.read_text().strip() if path.exists() else None


def main(folder: Path) -> None:
    """Write what is missing."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    for name, text in contents(folder).items():
        path = folder / name
        if path.exists():
            continue
        path.write_text(text)
        path.chmod(0o444)
        print(f"made {path}")
    print(f"Label Studio's first user and password are in {folder / 'labelstudio_env'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("secrets"))
