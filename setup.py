"""The long description of the distribution: the README, whose links lead somewhere outside of the repository too.

All else is in pyproject.toml. Links become absolute where `[project.urls]` names a `Repository`; until one does, a page is named by
its path alone, and the picture is left out.
"""

import re
import tomllib
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
PROJECT = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: A picture (with `!`) or a link whose target is a path of the repository.
RELATIVE = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)]*)\)")


def long_description() -> str:
    """The README with no relative link in it."""
    repository = PROJECT.get("urls", {}).get("Repository", "").rstrip("/")

    def elsewhere(link: re.Match[str]) -> str:
        picture, text, path = link.groups()
        if repository:
            place = "raw" if picture else "blob"
            return f"{picture}[{text}]({repository}/{place}/v{PROJECT['version']}/{path})"
        return "" if picture else text

    return RELATIVE.sub(elsewhere, (HERE / "README.md").read_text(encoding="utf-8"))


setup(long_description=long_description(), long_description_content_type="text/markdown")
