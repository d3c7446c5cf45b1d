"""The processes of an installation, and the demo's content out of a user's folder."""

import io
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pool_fixture import png_bytes

from maskloop_backend import services
from maskloop_backend.demo.folder import own_content
from maskloop_backend.demo.host import Account, find_label_studio, label_studio_environment, load_account
from maskloop_backend.demo.slices import DemoError
from maskloop_backend.services import PortBusy, list_services, run_services
from maskloop_backend.supervisor import HomeBusy, hold_home
from maskloop_learner.settings import Settings


def test_up_has_every_process(settings: Settings) -> None:
    """Valkey first; more workers when asked for; none of it with a Redis of one's own."""
    found = {service.name: service for service in list_services(settings)}
    assert list(found) == ["valkey", "web", "sync", "gpu", "training"]
    assert all(service.after == ("valkey",) for name, service in found.items() if name != "valkey")
    assert all(found[name].beat for name in ("sync", "gpu", "training"))
    settings.redis_url, settings.gpu_workers = "redis://elsewhere", 2
    assert [service.name for service in list_services(settings)] == ["web", "sync", "gpu-1", "gpu-2", "training"]


def test_the_demos_label_studio_may_call_loopback_but_not_metadata(settings: Settings, tmp_path: Path) -> None:
    """The one setting that lets it call our web process keeps its guard for metadata addresses."""
    account = load_account(tmp_path)
    env = label_studio_environment(settings, tmp_path, account)
    assert env["USE_DEFAULT_BANNED_SUBNETS"] == "false"
    assert env["USER_ADDITIONAL_BANNED_SUBNETS"] == "169.254.0.0/16"
    assert load_account(tmp_path) == account
    assert (tmp_path / "account.json").stat().st_mode & 0o077 == 0
    assert account.password not in repr(account)
    names = [service.name for service in list_services(settings, (Path("label-studio"), Account("a", "b", "c")))]
    assert "labelstudio" in names


def test_a_busy_port_is_one_clear_line(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the port and the setting, before any process is started."""
    monkeypatch.setattr(services, "PORT_PATIENCE", 0.3)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings.port = taken.getsockname()[1]
        with pytest.raises(PortBusy, match=rf"port {settings.port}.*MASKLOOP_PORT"):
            run_services(settings)


def test_a_second_up_is_refused(settings: Settings) -> None:
    """The same home folder has one supervisor; the message names it."""
    with hold_home(settings.home), pytest.raises(HomeBusy, match=r"is running on .* already"):
        run_services(settings)


def test_a_label_studio_that_is_not_there(settings: Settings, tmp_path: Path) -> None:
    """The setting is named."""
    settings.label_studio = str(tmp_path / "label-studio")
    with pytest.raises(DemoError, match="MASKLOOP_LABEL_STUDIO names"):
        find_label_studio(settings)


def fill(folder: Path, count: int, suffix: str = ".png") -> Path:
    """A folder of small images."""
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"case {number}{suffix}").write_bytes(png_bytes(number))
    return folder


def mask_png() -> bytes:
    """A 0/255 mask of the size of `png_bytes`."""
    out = io.BytesIO()
    Image.fromarray(np.eye(16, 24, dtype=np.uint8) * 255).save(out, "PNG")
    return out.getvalue()


def test_a_users_folder_with_masks(tmp_path: Path) -> None:
    """Some come labelled, some stay out as a test, the rest is to be labelled; masks may be called x_mask."""
    images, masks = fill(tmp_path / "img", 40), tmp_path / "masks"
    masks.mkdir()
    for number in range(30):
        (masks / f"case {number}_mask.png").write_bytes(mask_png())
    (images / "notes.txt").write_text("not an image")
    content = own_content(images, masks, {"Tumor": "tumor in an image"})
    assert (len(content.seeds), len(content.tests), len(content.names)) == (8, 10, 30)
    assert not set(content.seeds) & set(content.tests)
    assert set(content.seeds) <= set(content.names)
    assert not set(content.tests) & set(content.names)
    assert content == own_content(images, masks, {"Tumor": "tumor in an image"})


def test_a_users_folder_without_masks(tmp_path: Path) -> None:
    """Everything is to be labelled."""
    content = own_content(fill(tmp_path / "img", 5), None, {"Tumor": "tumor"})
    assert (len(content.seeds), len(content.tests), len(content.names)) == (0, 0, 5)


def test_what_a_users_folder_lacks_is_named(tmp_path: Path) -> None:
    """No images, no masks, no folder for a label."""
    images = fill(tmp_path / "img", 3)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DemoError, match="no PNG or JPEG"):
        own_content(tmp_path / "empty", None, {"A": "a"})
    with pytest.raises(DemoError, match=r"no image of .* has a mask"):
        own_content(images, tmp_path / "empty", {"A": "a"})
    with pytest.raises(DemoError, match="one folder per label"):
        own_content(images, tmp_path / "empty", {"A": "a", "B": "b"})
