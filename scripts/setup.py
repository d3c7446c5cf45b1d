"""Prepare the virtual environments. Standard library only, so that an old Python can still say what is wrong."""

import argparse
import glob
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def fail(message):
    """End with one clear line."""
    sys.exit("maskloop set-up: " + message)


def check_python():
    """Refuse a Python that cannot run Maskloop."""
    if sys.version_info < (3, 11):
        found = "%d.%d" % sys.version_info[:2]
        fail("Python 3.11 or newer is needed, %s is %s; try `make PYTHON=python3.11 ...`" % (sys.executable, found))
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        fail("this Python has no venv module; install it (Debian: apt-get install python3-venv) and run again")


def digest(*names):
    """A digest of files below the root, and of the Python that would use them."""
    found = hashlib.sha256(sys.version.encode())
    for name in names:
        with open(os.path.join(ROOT, name), "rb") as file:
            found.update(file.read())
    return found.hexdigest()


def pip(venv, *words):
    """Run pip in a virtual environment; on failure end with the one line that matters."""
    command = [os.path.join(venv, "bin", "python"), "-m", "pip", "install", "--quiet", *words]
    command.append("--disable-pip-version-check")
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode == 0:
        return
    log = os.path.join(venv, "pip.log")
    with open(log, "w") as file:
        file.write(done.stdout)
    if not has_index(venv):
        fail("pip cannot reach a package index (details: %s); check the network or pip's settings" % log)
    lines = [line for line in done.stdout.splitlines() if "ERROR" in line] or done.stdout.splitlines()[-1:]
    fail("pip failed: %s (details: %s)" % (lines[0] if lines else "no message", log))


def has_index(venv):
    """Whether pip finds a small package that everybody has: with constraints it blames versions instead."""
    with tempfile.TemporaryDirectory() as folder:
        command = [os.path.join(venv, "bin", "python"), "-m", "pip", "download", "--no-deps", "--dest", folder, "pip"]
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def prepare(venv, what, stamp, *words):
    """Create a virtual environment and install into it, unless its stamp says that it is done."""
    path = os.path.join(venv, "maskloop-stamp")
    if os.path.exists(path):
        with open(path) as file:
            if file.read() == stamp:
                return
    started = time.time()
    print("Installing %s into %s (once; some minutes) ..." % (what, venv), flush=True)
    if not os.path.exists(os.path.join(venv, "bin", "python")):
        made = subprocess.run([sys.executable, "-m", "venv", venv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if made.returncode != 0:
            fail("cannot create %s: %s" % (venv, made.stdout.decode(errors="replace").strip().splitlines()[-1]))
    pip(venv, *words)
    with open(path, "w") as file:
        file.write(stamp)
    print("Installed %s in %.0f s." % (what, time.time() - started), flush=True)


def link_checkout(venv):
    """Let the environment import this checkout, whichever clone used it last."""
    path = os.path.join(venv, "maskloop-checkout")
    if os.path.exists(path):
        with open(path) as file:
            if file.read() == ROOT:
                return
    pip(venv, "--no-deps", "--no-build-isolation", "-e", ".")
    with open(path, "w") as file:
        file.write(ROOT)


TOOLS = {
    "chromium": ("the browser tests", ["/usr/bin/chromium", "/usr/bin/google-chrome"]),
    "postgresql": ("the tests of a pool on PostgreSQL", ["/usr/lib/postgresql/*/bin/postgres"]),
    "faketime": ("the test of a clock that steps back", ["/usr/lib/*/faketime/libfaketimeMT.so.1"]),
}
"""Debian's package -> what needs it, and the files that show that it is there."""


def install_tools():
    """What the long tests need of the system: Debian's packages when root, else a clear line of what to do."""
    missing = [name for name, (_, files) in TOOLS.items() if not any(glob.glob(path) for path in files)]
    elsewhere = {"chromium": ("chromium", "google-chrome"), "postgresql": ("postgres",)}
    missing = [name for name in missing if not any(map(shutil.which, elsewhere.get(name, ())))]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        for name in missing:
            print(f"No {name} found: {TOOLS[name][0]} will be skipped. Install it, e.g. apt-get install {name}.")
        return
    # The server that Debian's package would start is none of ours.
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive", RUNLEVEL="1")
    quiet = {"stdout": subprocess.DEVNULL, "env": environment}
    subprocess.run(["apt-get", "update", "-qq"], check=False, **quiet)
    subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], check=True, **quiet)


def main():
    """Read the command line and prepare what it asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", required=True, help="virtual environment of Maskloop")
    parser.add_argument("--label-studio", help="virtual environment of Label Studio, when it is needed")
    parser.add_argument("--tools", action="store_true", help="also what the long tests need: browser, PostgreSQL, ..")
    options = parser.parse_args()
    check_python()
    lock, project = "constraints.txt", "pyproject.toml"
    words = ("-c", lock, "pip", "hatchling", "editables", *requirements())
    prepare(options.venv, "Maskloop's dependencies", digest(lock, project), *words)
    link_checkout(options.venv)
    if options.label_studio:
        lock = "constraints-label-studio.txt"
        prepare(options.label_studio, "Label Studio", digest(lock), "-c", lock, "label-studio")
    if options.tools:
        install_tools()


def requirements():
    """The dependencies that pyproject.toml names, with those of its extras."""
    import tomllib

    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
        project = tomllib.load(file)["project"]
    return [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]


if __name__ == "__main__":
    main()
