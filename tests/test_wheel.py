"""The wheel puts one name into site-packages, beside whatever names the user's own modules have."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
SCRIPT = """
import runpy, sys
import countgen
import app, benchmarks, critics

assert {module.OWNER for module in (app, benchmarks, critics)} == {"user"}
models = countgen.load("miniature", device="cpu")
print(countgen.generate("a photo of two apples", models, method="plain").image.shape)
sys.argv = ["countgen", "--version"]
runpy.run_module("countgen", run_name="__main__")
"""


def run(*arguments: str, cwd: Path, site: Path) -> str:
    environment = {"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "HOME": str(cwd)}
    done = subprocess.run(arguments, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_works_beside_a_users_own_app_critics_and_benchmarks(tmp_path: Path) -> None:
    source, site, project = (tmp_path / name for name in ("source", "site", "project"))
    # A copy, since setuptools builds in the tree.
    leftovers = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "tests", "docs", "runs")
    shutil.copytree(ROOT, source, symlinks=True, ignore=leftovers)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    names = {name.partition("/")[0] for name in content}
    assert {name for name in names if not name.endswith(".dist-info")} == {"countgen"}
    assert not [name for name in content if name.startswith("countgen/benchmarks/miniature")]
    twice = [name for name, data in content.items() if data and list(content.values()).count(data) > 1]
    assert all("/mini-sdxl-turbo/tokenizer" in name for name in twice)  # a stock folder has both of its tokenizers

    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)  # as pip installs it
    (project / "benchmarks").mkdir(parents=True)
    for name in ("app.py", "critics.py", "benchmarks/__init__.py"):
        (project / name).write_text('OWNER = "user"\n')
    (project / "script.py").write_text(SCRIPT)
    printed = run(sys.executable, "script.py", cwd=project, site=site)
    assert "[3, 128, 128]" in printed
    assert "countgen 0.1.0" in printed
