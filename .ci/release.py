"""Build the sdist and the wheel for a package index: `python .ci/release.py https://github.com/OWNER/countgen OUT`.

Package indexes show the README without the repository, so that its links are made absolute, in a copy of the tree.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "build", "dist", "site", "*.egg-info", "__pycache__", ".*_cache")


def main(url: str, out: str) -> None:
    """Check that the version is the same everywhere, build, and check what was built."""
    (version,) = re.findall(r'^__version__ = "(.+)"$', (ROOT / "countgen/__init__.py").read_text(), re.MULTILINE)
    for name, line in (("CITATION.cff", f"version: {version}\n"), ("CHANGELOG.md", f"## {version} ")):
        if line not in (ROOT / name).read_text():
            sys.exit(f"{name} has no line {line!r}, the version of countgen/__init__.py")
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "countgen"
        shutil.copytree(ROOT, tree, symlinks=True, ignore=LEFT_OUT)
        readme, project = tree / "README.md", tree / "pyproject.toml"
        readme.write_text(with_absolute_links(readme.read_text(), url.rstrip("/"), f"v{version}"))
        urls = f'[project.urls]\nRepository = "{url}"\nChangelog = "{url}/blob/main/CHANGELOG.md"\n\n'
        project.write_text(project.read_text().replace("[project.scripts]\n", f"{urls}[project.scripts]\n"))
        run("build", "--no-isolation", "--outdir", out, str(tree))
    files = [str(path) for path in sorted(Path(out).glob(f"countgen-{version}*"))]
    run("twine", "check", "--strict", *files)
    run("check_wheel_contents", *(path for path in files if path.endswith(".whl")))


def with_absolute_links(text: str, url: str, tag: str) -> str:
    """Return Markdown whose relative links lead to a tag of the repository at `url`; images to the raw file."""
    return re.sub(
        r"(!?)\[([^]]*)\]\((?!https?:|#)([^)]+)\)",
        lambda link: f"{link[1]}[{link[2]}]({url}/{'raw' if link[1] else 'blob'}/{tag}/{link[3]})",
        text,
    )


def run(module: str, *arguments: str) -> None:
    """Run a module of this Python."""
    subprocess.run([sys.executable, "-m", module, *arguments], check=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
