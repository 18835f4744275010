"""An exported folder on the Hugging Face hub, in a private repository. Nothing is uploaded unless somebody asks for it."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mllm_adapters.contract.terms import HostError

Result = TypeVar("Result")


def check_upload(repository: str) -> None:
    """Make sure that an upload can begin: the name is one, the hub answers, and somebody is logged in.

    Raises:
        HostError: if not; the message says why.
    """
    from huggingface_hub import whoami
    from huggingface_hub.utils import validate_repo_id

    if "/" not in repository:
        raise HostError(f"--push-to-hub {repository}: give OWNER/NAME")
    _asked(lambda: validate_repo_id(repository), f"--push-to-hub {repository}: nothing was written")
    _asked(whoami, f"--push-to-hub {repository}: nothing was written")


def upload(folder: Path, repository: str) -> str:
    """Upload a folder to a repository, which is made, private, where there is none. Returns its address.

    Raises:
        HostError: if the hub refuses; the folder stays.
    """
    from huggingface_hub import create_repo, upload_folder

    left = f"{folder} is written but not uploaded; `hf upload {repository} {folder}` tries once more"
    address = _asked(lambda: create_repo(repository, private=True, exist_ok=True), left)
    _asked(lambda: upload_folder(repo_id=repository, folder_path=folder), left)
    return str(address)


def _asked(request: Callable[[], Result], before: str) -> Result:
    try:
        return request()
    except Exception as error:  # the client raises its HTTP library's own classes, which change from release to release
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise HostError(f"{before} ({said})") from error
