# The folder of this project. A module may also be read from a git repository: then this is a checkout of the same commit, made
# once, because Snakemake itself fetches only the files that it knows of.

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from snakemake.sourcecache import HostingProviderFile, LocalGitFile, LocalSourceFile


# End this call with one sentence and exit code 1. Snakemake puts the file and the line of a rule in front of the exceptions
# that it reports, and a traceback behind those of input functions.
def refuse(error):
    raise SystemExit(f"Error: {error}")


# Run git and return what it prints.
def git(*words):
    done = subprocess.run(["git", *words], capture_output=True, text=True)
    if done.returncode:
        refuse(f"module: git {' '.join(words)} failed: {done.stderr.strip()}")
    return done.stdout.strip()


# Check a commit out into a folder below .snakemake/, and return the folder.
def checkout(repository, name):
    commit = git("-C", repository, "rev-parse", "--verify", f"{name}^{{commit}}")
    folder = Path(".snakemake/afmp-checkouts", commit).absolute()
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as part:
            git("clone", "--quiet", "--no-checkout", repository, f"{part}/{commit}")
            git("-C", f"{part}/{commit}", "checkout", "--quiet", "--detach", commit)
            try:
                os.rename(f"{part}/{commit}", folder)
            except OSError:
                if not folder.exists():  # another process may have been faster
                    raise
    return folder


if isinstance(SOURCE, LocalSourceFile):
    PROJECT = SOURCE.get_path_or_uri(secret_free=True)
elif isinstance(SOURCE, LocalGitFile):
    PROJECT = os.path.normpath(
        checkout(os.path.abspath(SOURCE.repo_path), SOURCE.ref) / SOURCE.path
    )
elif isinstance(SOURCE, HostingProviderFile):
    SOURCE.cache_path = workflow.sourcecache.cache_path
    PROJECT = os.path.normpath(
        checkout(str(SOURCE.hosted_repo.repo_clone), SOURCE.ref) / SOURCE.path
    )
else:
    refuse(
        f"module: found {SOURCE.get_path_or_uri(secret_free=True)}; this workflow needs its whole folder, so only a path, "
        "github(...), gitlab(...) and gitfile(...) are allowed."
    )
