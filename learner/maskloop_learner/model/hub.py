"""Files from the Hugging Face hub, with a progress bar. An interrupted download goes on where it stopped.

The hub's own client starts over after an interruption, so it is asked only what the file is; the bytes come here.
`HF_HUB_OFFLINE`, `HF_ENDPOINT`, `HF_TOKEN` and the client's cache are honoured.
"""

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import httpx
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from maskloop_learner.model.backbones import BackboneError, BackboneSpec
from maskloop_learner.model.files import digest_file

if TYPE_CHECKING:
    from maskloop_learner.model.bases import Bases

# Which HTTP library the client uses depends on its version; its error class derives from that library's.
TRANSPORT: tuple[type[Exception], ...] = (OSError, httpx.HTTPError, HfHubHTTPError.__mro__[1])
ATTEMPTS = 5
"""In a row without a new byte."""
PAUSE = 1.0
DATASETS = (
    "BKAI", "BRISC", "BTMRI", "BUID", "BUSBRA", "BUSI", "BUSUC", "CVC300", "ClinicDB", "ColonDB", "Covid19", "EUS",
    "ISIC", "Kvasir", "UDIAT", "UWaterlooSkinCancer",
)  # fmt: skip
"""Of the paper; the hub says which of them have a checkpoint."""
PERCENTS = (10, 25, 50, 100)
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """A file that was fetched."""

    path: Path
    revision: str | None
    """Commit."""
    sha256: str
    kept: bool
    """It is the hub client's own copy: leave it."""


@dataclass(frozen=True, kw_only=True)
class Remote:
    """What the hub says of a file."""

    address: str
    etag: str
    """sha256 of the bytes for a large file."""
    revision: str | None
    size: int
    authorised: bool
    """Whether the address is the hub's own, which may be told the token."""


@contextmanager
def fetched(repo: str, file: str, *, folder: Path, revision: str = "main") -> Iterator[HubFile]:
    """A file of a repository, in the client's cache or downloaded into `folder`; there it is deleted afterwards.

    Raises BackboneError saying what to do: no network, offline mode, a repository that is gated, no such file.
    """
    cached = try_to_load_from_cache(repo, file, revision=revision)
    if isinstance(cached, str):
        path = Path(cached)
        yield HubFile(path=path, revision=commit_of(path), sha256=digest_file(path), kept=True)
        return
    remote = ask(repo, file, revision)
    path = download(remote, folder=folder, title=f"{repo}/{file}")
    yield HubFile(path=path, revision=remote.revision, sha256=digest_file(path), kept=False)
    path.unlink(missing_ok=True)


def fetch_backbone(spec: BackboneSpec, bases: "Bases") -> str:
    """Bring a backbone's weights, and a BERT's vocabulary, from the hub into `bases`; return the towers' digest."""
    if spec.source is None or bases.folder is None:
        raise BackboneError(f"backbone {spec.name!r} ships with this package: there is nothing to fetch")
    folder = bases.folder / "downloads"
    if spec.source.vocabulary is not None:
        with fetched(spec.source.vocabulary, "vocab.txt", folder=folder) as found:
            bases.add_vocabulary(spec, found.path)
    repo, file = spec.source.repo, spec.source.file
    with fetched(repo, file, folder=folder) as found:
        return bases.add_file(spec, found.path, source=f"{repo}/{file}", revision=found.revision)


def released_file(name: str, percent: int = 100) -> str:
    """Path within the published repository of `medclipseg/<dataset>` (any case), trained on that share of its images.

    Raises BackboneError with the known names.
    """
    owner, _, wanted = name.partition("/")
    known = {dataset.lower(): dataset for dataset in DATASETS}
    if owner.lower() != "medclipseg" or wanted.lower() not in known:
        raise BackboneError(f"a released checkpoint is named medclipseg/ and one of {', '.join(known)}, got {name!r}")
    if percent not in PERCENTS:
        raise BackboneError(f"percent must be one of {PERCENTS}, got {percent}")
    folder = known[wanted.lower()] + ("" if percent == 100 else f"_{percent}")
    return f"{folder}/trained_models/seed666/MedCLIPSeg_unimedclip_ViT-B-16_latest.pth"


def ask(repo: str, file: str, revision: str) -> Remote:
    """What the hub says of the file. Raises BackboneError."""
    url = hf_hub_url(repo, file, revision=revision)
    what = f"{file!r} of {repo!r}"
    by_hand = "Without a network, copy the file here by other means and name its path (docs/models.md)."
    try:
        found = get_hf_file_metadata(url)
    except OfflineModeIsEnabled as error:
        raise BackboneError(
            f"{what} is not here and HF_HUB_OFFLINE forbids fetching it; unset it. {by_hand}"
        ) from error
    except GatedRepoError as error:
        raise BackboneError(
            f"{what} is gated: accept its terms at {constants.ENDPOINT}/{repo} and set HF_TOKEN to a token of yours"
        ) from error
    except RevisionNotFoundError as error:
        raise BackboneError(f"{what} has no revision {revision!r} on {constants.ENDPOINT}") from error
    except EntryNotFoundError as error:
        raise BackboneError(f"{what} does not exist on {constants.ENDPOINT}: see the files at {url}") from error
    except RepositoryNotFoundError as error:
        raise BackboneError(
            f"{what}: {constants.ENDPOINT} has no such repository, or it is private and HF_TOKEN is not set"
        ) from error
    except TRANSPORT as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        raise BackboneError(f"{constants.ENDPOINT} cannot be asked for {what}: {reason}. {by_hand}") from error
    if not found.etag or found.size is None:
        raise BackboneError(f"{constants.ENDPOINT} does not say what {what} is: is HF_ENDPOINT a hub's address?")
    return Remote(
        address=found.location,
        etag=re.sub(r"[^0-9A-Za-z]", "", found.etag),
        revision=found.commit_hash,
        size=found.size,
        authorised=httpx.URL(found.location).host == httpx.URL(url).host,
    )


def download(remote: Remote, *, folder: Path, title: str) -> Path:
    """Bring the file into `folder`, going on with what is there of it. Raises BackboneError."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{remote.etag}.part"
    whole = part.with_suffix(".whole")
    if whole.exists():
        # It came before, and what was to be done with it failed.
        return whole
    with part.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BackboneError(f"another process is downloading {title} right now; wait for it") from error
        transfer(remote, file, title)
        file.flush()
        os.fsync(file.fileno())
        if SHA256.fullmatch(remote.etag) and digest_file(part) != remote.etag:
            part.unlink()
            raise BackboneError(
                f"the bytes of {title} are not those that the hub has; they are deleted: fetch it again"
            )
        os.replace(part, whole)
    return whole


def transfer(remote: Remote, file: BinaryIO, title: str) -> None:
    """Append the missing bytes, beginning again where the connection breaks."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        if file.tell() > remote.size:
            file.truncate(0)
        shown = bar.add_task(title, total=remote.size, completed=file.tell())
        failures = 0
        while file.tell() < remote.size:
            before = file.tell()
            try:
                for count in stream(remote, file):
                    bar.update(shown, completed=count)
                reason = "the connection ended early"
            except TRANSPORT as error:
                reason = str(error) or type(error).__name__
            failures = 0 if file.tell() > before else failures + 1
            if failures == ATTEMPTS:
                have = f"{file.tell()} of {remote.size} bytes"
                raise BackboneError(f"{title} could not be fetched ({reason}); {have} are kept: run the command again")
            if file.tell() < remote.size:
                time.sleep(PAUSE)


def stream(remote: Remote, file: BinaryIO) -> Iterator[int]:
    """One request for what is missing; yields how much of the file is there after each piece."""
    headers = dict(build_hf_headers())
    if not remote.authorised:
        headers.pop("authorization", None)
    if file.tell():
        headers["Range"] = f"bytes={file.tell()}-"
    # Compressed in transit, a range would count other bytes than the file's.
    headers["Accept-Encoding"] = "identity"
    with httpx.stream("GET", remote.address, headers=headers, follow_redirects=True, timeout=30) as answer:
        answer.raise_for_status()
        if answer.status_code != httpx.codes.PARTIAL_CONTENT:
            file.truncate(0)
        # As they come: what a larger buffer had gathered would be lost with the connection.
        for piece in answer.iter_raw():
            file.write(piece)
            yield file.tell()


def commit_of(path: Path) -> str | None:
    """The commit that a file of the client's cache belongs to."""
    parts = path.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else None
