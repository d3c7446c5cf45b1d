"""Write a constraints file: the exact versions in a virtual environment, without addresses or paths."""

import argparse
import os
import subprocess

SKIPPED = ("maskloop", "pip", "setuptools", "wheel")


def main():
    """Read the command line and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", required=True)
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    command = [os.path.join(options.venv, "bin", "python"), "-m", "pip", "list", "--format=freeze"]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    # A build tag such as +cu132 names one index's file; the version alone is what is asked for.
    pins = [line.split("+")[0] for line in lines if line.split("==")[0].lower() not in SKIPPED]
    with open(options.out, "w") as file:
        file.write("\n".join(sorted(pins, key=str.lower)) + "\n")
    print("%s: %d versions" % (options.out, len(pins)))


if __name__ == "__main__":
    main()
