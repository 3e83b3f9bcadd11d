"""How to cite the software: the content of CITATION.cff as sentences."""

from pathlib import Path

import yaml

from afmp.data.cifar import KRIZHEVSKY_2009

FILE = "CITATION.cff"


def read_citation(project: Path | str) -> str:
    """Return the text of CITATION.cff in a project's folder, "" if it has none: an installed package has none."""
    path = Path(project, FILE)
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def citation_content(text: str) -> dict | None:
    """Return what CITATION.cff asks for, how to cite the software, and the file itself; None for no text."""
    if not text:
        return None
    said = yaml.safe_load(text)
    authors = ", ".join(
        author.get("name") or f"{author.get('given-names', '')} {author.get('family-names', '')}".strip()
        for author in said["authors"]
    )
    year = str(said.get("date-released", ""))[:4]
    work = f"{authors}{f' ({year})' if year else ''}. {said['title']}. Version {said.get('version', '')}."
    return {"message": said.get("message", ""), "sentence": f"Software to cite: {work}", "file": text}


def images_to_cite(source: str, name: str) -> str:
    """Return what a study cites for its images, by its `dataset/source` and the name of its dataset."""
    if "cifar" in f"{source} {name}".lower():
        return f"Images to cite: {KRIZHEVSKY_2009}"
    return f"Cite the source of the images, too: {name}. The report on CIFAR in {FILE} is not on them."
