"""What made an output: package versions, git commit, the machine's kind. Written beside everything that takes time to make."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("mgll-graft", "torch", "transformers", "peft", "accelerate", "safetensors", "numpy")


def provenance() -> dict[str, str]:
    """Versions of Python and of the packages that shape results, and the git commit (with `-dirty`) where there is one."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    found["git"] = _git_commit()
    return found


def _git_commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
