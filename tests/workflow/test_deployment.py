"""Where the software comes from: a conda environment for each job, and the image of a container."""

import os
import re
import sys
import sysconfig

import pytest
import yaml
from conftest import PROJECT
from workflow_runs import PARTS, SMALL, copy_project, run, write_study

DATASET = "results/prepare_data/digits.safetensors"
# What Snakemake asks of conda. An environment borrows the packages of the present one.
CONDA = """#!/bin/sh
case "$*" in
    *--version) echo "conda 26.1.0" ;;
    info*) echo '{{"conda_prefix": "{base}", "platform": "linux-64"}}' ;;
    config*) echo '{{"get": {{"channel_priority": "strict"}}}}' ;;
    *create*)
        for word; do case "$before" in --prefix*) prefix=$word ;; esac; before=$word; done
        env -u PYTHONPATH "{python}" -m venv --without-pip "$prefix"
        for site in "$prefix"/lib/python3.*/site-packages; do echo "{packages}" > "$site/borrowed.pth"; done ;;
esac
"""


@pytest.mark.promise("conda")
@pytest.mark.long
def test_a_job_in_a_conda_environment_finds_this_package(tmp_path):
    """With a program in the place of conda, because no conda is needed to see which package a job imports."""
    base, packages = tmp_path / "conda", sysconfig.get_path("purelib")
    (base / "bin").mkdir(parents=True)
    (base / "bin/conda").write_text(CONDA.format(base=base, python=sys.executable, packages=packages))
    (base / "bin/conda").chmod(0o755)
    (base / "bin/activate").write_text('. "$1/bin/activate"\n')
    (tmp_path / "project").mkdir()
    folder = copy_project(tmp_path / "project")
    write_study(folder, SMALL)
    environment = {"PATH": f"{base}/bin:{os.environ['PATH']}"}
    code, said = run(folder, DATASET, "--sdm", "conda", environment=environment)
    assert code == 0 and (folder / DATASET).is_file(), said
    (python,) = (folder / ".snakemake/conda").glob("*_/bin/python")
    assert "Activating conda environment" in said and python.exists()


def test_the_image_has_what_the_workflow_reads_and_installs_the_constraints():
    text = (PROJECT / "envs/Dockerfile").read_text()
    copied = {word for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for word in line.split()}
    assert set(PARTS) <= copied and all((PROJECT / name).exists() for name in copied)
    documents = [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md"), *PROJECT.glob("*.yaml")]
    given = {name for file in documents for name in re.findall(r"--config(?:file)? (\S+\.yaml)\b", file.read_text())}
    shipped = {name for name in given if (PROJECT / name).is_file()}  # others are names for a reader's own files
    assert {"demo.yaml", "my_images.yaml"} <= shipped <= copied
    (install,) = re.findall(r"^RUN python -m pip install .*$", text, re.MULTILINE)
    assert "--constraint constraints.txt" in install
    # A user without a name ends Snakemake, and one without a home of its own Triton: `docker run --user` gives neither.
    assert {"HOME", "USER"} <= set(re.findall(r"(\w+)=", " ".join(re.findall(r"^ENV .*$", text, re.MULTILINE))))


def test_the_catalog_of_workflows_reads_what_it_needs():
    usage = yaml.safe_load((PROJECT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    deployment = usage["software-stack-deployment"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"} and usage["report"] is True
    # A rule without an environment would not run with `--sdm conda` on a machine with nothing but Snakemake.
    rules = "".join(path.read_text() for path in (PROJECT / "rules").glob("*.smk"))
    assert deployment["conda"] is (rules.count("script:") == rules.count("conda:\n") and "container:" not in rules)
