"""Puts conf/ into the wheel, so that a run on a cluster needs no checkout; conf/local never leaves the machine."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PRIVATE = "local"


class BuildWithConf(build_py):
    """Copies conf/ beside the package's modules, without the user's own settings."""

    def run(self) -> None:
        """Build as ever, then copy; an editable install reads conf/ where it lies."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "cygnet", "conf")
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree("conf", target, ignore=shutil.ignore_patterns(PRIVATE))


setup(cmdclass={"build_py": BuildWithConf})
