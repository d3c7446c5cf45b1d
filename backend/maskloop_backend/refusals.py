"""Why an image was refused, in words with a cure, and whether a later try may succeed."""

from maskloop_backend.addresses import AddressRefused, Trust
from maskloop_backend.cloud import is_signed, looks_like_label_studio
from maskloop_backend.origins import FetchError, Target

OTHER_NAME = (
    "If this is the connected Label Studio under another name, run `maskloop connect --url` with that name, or set "
    "LABEL_STUDIO_HOST in Label Studio's environment to the one that is connected."
)
RETRIED = (401, 403, 408, 424, 425, 429)


def address_refused(target: Target, refused: AddressRefused, trust: Trust) -> FetchError:
    """The error for a target whose address must not be connected to; tried again where naming the host cures it."""
    return FetchError(target.shown, str(refused), _address_fix(target, refused, trust), retry=refused.nameable)


def _address_fix(target: Target, refused: AddressRefused, trust: Trust) -> str:
    if trust == "named":
        return "A host of MASKLOOP_IMAGE_HOSTS may be private or loopback, but no such address: correct its name."
    if looks_like_label_studio(target.path):
        return OTHER_NAME
    if refused.nameable:
        return (
            f"If {target.netloc} is an image server of yours, name it in MASKLOOP_IMAGE_HOSTS and start Maskloop "
            "again; else upload the image to Label Studio or give the task a public address."
        )
    return "Such an address is never read: upload the image to Label Studio or give the task a public address."


def check_status(target: Target, status: int) -> None:
    """Raise FetchError for an answer that is not the image itself."""
    if status == 200:
        return
    signed = not target.inside and is_signed(target.query)
    # A signature that has run out is 403 with S3 and Azure and 400 with Google; the next one is fresh. A storage
    # that Label Studio lacks can be added to the project.
    again = status in RETRIED or status >= 500 or (signed and status == 400)
    again = again or (target.asked_for is not None and status == 404)
    raise FetchError(target.shown, f"answered with status {status}", _status_fix(target, status, signed), retry=again)


def _status_fix(target: Target, status: int, signed: bool) -> str:
    if target.inside and status in (401, 403):
        return "Label Studio refuses the token: run `maskloop connect` with a valid one."
    if target.asked_for is not None and status == 404:
        return "No storage of the project in Label Studio holds it, or the task is gone: see the Cloud Storage there."
    if target.asked_for is not None and status == 424:
        return "Label Studio cannot read it from its storage: check that the file is there, and the storage's keys."
    if signed and status in (400, 401, 403):
        return (
            "The storage refuses the signature: check that the file is there, the storage's keys in Label Studio, the "
            "lifetime of its pre-signed URLs, and the clocks of both machines."
        )
    if not target.inside and status in (401, 403, 404) and looks_like_label_studio(target.path):
        return OTHER_NAME
    if status in (401, 403):
        return "The server of the image asks for a permission that Maskloop does not have."
    return "Check the task's image address."
