"""Verification of studies in which tables, figures or the dataset lie: each lie is a FAIL that names its file."""

import pytest
from lies import (
    DATA,
    FIGURE,
    PICTURE,
    TOP,
    P,
    R,
    added,
    as_json,
    content,
    copied,
    drop_entry,
    endless,
    flipped_bit,
    folder,
    gone,
    huge_png,
    jpeg,
    of_other_data,
    other_dataset,
    pipe,
    pixel,
    replaced,
    sparse,
    text,
)
from verified import assert_found, assert_named, failures

# By group and name: a function that tells the lie, and a pattern of the FAIL line for each line that it causes.
LIES = {
    "tables": {
        "another number": (
            replaced("aggregate/summary.csv", r",\d\d\.\d+,", ",99.5,"),
            "aggregate/summary.csv: line 2, test_accuracy_mean: '99.5', '",
        ),
        "a row too many": (
            replaced("aggregate/epochs.csv", r"\n$", "\npaper,other,0,1,1,1,1,1,1\n"),
            "aggregate/epochs.csv: 56 lines, 55 computed",
        ),
        "another verdict": (
            replaced("claims.csv", r"(holds|fails|cannot tell),", "proved,"),
            "claims.csv: line 2, claim_verdict: 'proved', '",
        ),
        "no text": (content("aggregate/differences.csv", b"\xff"), "aggregate/differences.csv: is no text"),
        "missing": (gone("aggregate/scalability_fits.csv"), "aggregate/scalability_fits.csv: no such file"),
        "an edited page": (
            replaced("aggregate/scalability.html", r"<td>", "<td>9"),
            "aggregate/scalability.html: line .* is .*<td>9",
        ),
        "a deleted page": (
            gone("aggregate/scalability_ratios.html"),
            "aggregate/scalability_ratios.html: no such file",
        ),
        "an edited caption": (
            replaced("aggregate/parameters.rst", "DeiT", "ViT"),
            "aggregate/parameters.rst: line 1 is",
        ),
        "another number for publication": (
            replaced("aggregate/summary.tex", r"& \d\d\.\d\d", "& 99.50"),
            r"aggregate/summary\.tex: line \d+ is .*& 99\.50",
        ),
        "a deleted table for publication": (gone("aggregate/differences.md"), "aggregate/differences.md: no such file"),
    },
    "tables that stand as something else": {
        "a cell too many": (
            replaced("aggregate/epochs.csv", r"\n$", ",1\n"),
            "aggregate/epochs.csv: line 55 has 10 cells, 9 computed",
        ),
        "claims that are none": (
            text("claims.yaml", "claims: 5"),
            r"claims\.yaml: claims: claims: found 5; allowed: a mapping",
        ),
        "a pipe": (pipe("aggregate/summary.csv"), "aggregate/summary.csv: is a pipe"),
        "a folder as a caption": (folder("aggregate/differences.rst"), "aggregate/differences.rst: is a folder"),
        "2 GB of nothing as a page": (
            sparse("aggregate/scalability.html"),
            "aggregate/scalability.html: refused unread",
        ),
        "quotes that no cell shows": (
            replaced("aggregate/parameters.csv", "afmp_small", '"afmp_small"'),
            "aggregate/parameters.csv: line 2 is",
        ),
        "a deleted caption": (
            gone("aggregate/scalability_ratios.rst"),
            "aggregate/scalability_ratios.rst: no such file",
        ),
        "another page in its place": (
            copied("aggregate/summary.html", "aggregate/scalability_fits.html"),
            "aggregate/scalability_fits.html: line",
        ),
    },
    "figures": {
        "emptied": (text(f"{FIGURE}.png", ""), f"{FIGURE}.png: is no PNG, or a damaged one"),
        "of other data": (
            of_other_data("figures/notebook_vs_paper"),
            r"notebook_vs_paper\.png: [\d,]+ pixels are not .*notebook_vs_paper\.pdf: is not the figure",
        ),
        "replaced by another": (
            copied("figures/notebook/scalability_fits.png", "figures/paper/scalability_fits.png"),
            r"figures/paper/scalability_fits.png: (has \d+ x \d+ px|[\d,]+ pixels)",
        ),
        "a PDF emptied": (
            text("figures/paper/scalability_results.pdf", ""),
            "figures/paper/scalability_results.pdf: is not the figure",
        ),
        "a PDF of another figure": (
            copied("figures/paper/scalability_results.pdf", "figures/notebook/scalability_results.pdf"),
            "figures/notebook/scalability_results.pdf: is not the figure",
        ),
        "an edited caption": (
            replaced("figures/notebook/scalability_fits.rst", r"\d", "9"),
            "figures/notebook/scalability_fits.rst: line 1 is",
        ),
        "a pixel of diagnostics": (pixel(f"{PICTURE}.png", 8), f"{PICTURE}.png: 1 pixels are not those"),
        "a missing picture": (
            gone("plot_diagnostics/notebook/top_down/epoch_0002.png"),
            "plot_diagnostics/notebook/top_down/epoch_0002.png: no such file",
        ),
        "a picture of another epoch": (
            copied("plot_diagnostics/paper/top_down/epoch_0002.png", "plot_diagnostics/paper/top_down/epoch_0003.png"),
            r"top_down/epoch_0003.png: [\d,]+ pixels",
        ),
        "a caption of another epoch": (
            copied(
                "plot_diagnostics/paper/sparse_0.3/epoch_0002.rst", "plot_diagnostics/paper/sparse_0.3/epoch_0003.rst"
            ),
            "sparse_0.3/epoch_0003.rst: line 1",
        ),
    },
    "figures that stand as something else": {
        "a picture that fills the memory": (
            content(f"{FIGURE}.png", huge_png()),
            f"{FIGURE}.png: (is no PNG|has 100000 x 100000)",
        ),
        "a pipe": (pipe(f"{FIGURE}.pdf"), f"{FIGURE}.pdf: is a pipe"),
        "a folder": (folder("figures/notebook_vs_paper.rst"), "figures/notebook_vs_paper.rst: is a folder"),
        "2 GB of nothing": (
            sparse("figures/paper/scalability_fits.png"),
            "figures/paper/scalability_fits.png: refused unread",
        ),
        "a link to a device without an end": (
            endless("figures/paper/scalability_results.png"),
            "figures/paper/scalability_results.png: is a device",
        ),
        "a JPEG of the right size": (jpeg(f"{PICTURE}.png"), f"{PICTURE}.png: is no PNG"),
    },
    "no dataset": {"missing": (gone(DATA), f"{DATA}: no such file")},
    "a damaged dataset": {"a bit": (flipped_bit(DATA), f"{DATA}: is damaged")},
    "a hash beside the dataset": {
        "another": (
            text(f"{DATA[:-11]}sha256", "a" * 64),
            "prepare_data/digits.sha256: hash is 'aaa.*, the dataset has",
        ),
    },
    "another dataset with its right hash": {
        "other labels": (
            other_dataset(DATA),
            f"one dataset hash in 18 results: {DATA}: its hash is .*, but 18 of 18",
            "digits.sha256: hash is",
            "best.safetensors: dataset is",
        ),
    },
    "a pipe as a dataset": {"a pipe": (pipe(DATA), f"{DATA}: ")},
    "files that no study knows": {
        "a run": (added("train/paper/lucky/seed_0/results_lucky.json"), "train/paper/lucky: is no part of this study"),
        "a seed": (added("train/paper/top_down/seed_9/diagnostics.json"), "train/paper/top_down/seed_9: is no part"),
        "a file of a seed": (added("train/paper/top_down/seed_0/notes.txt"), "seed_0/notes.txt: is no part"),
        "a figure": (added("figures/paper/better.png"), "figures/paper/better.png: is no part"),
        "a dataset": (added("prepare_data/cifar10.safetensors"), "prepare_data/cifar10.safetensors: is no part"),
    },
}

MANIFEST_LIES = {
    "a pixel that nobody sees": (
        pixel(f"{FIGURE}.png", 1),
        f"files are those of the manifest: {FIGURE}.png: changed since",
    ),
    "another layout of the same numbers": (as_json(R[TOP, P, 0]), f"{R[TOP, P, 0]}: changed since the study finished"),
    # As `snakemake claims` leaves them after an edit of claims.yaml: right, and newer than the manifest.
    "claims answered after the study": (
        replaced("claims.yaml", r"\Z", "\n"),
        r"claims\.yaml: changed since .*; if `snakemake claims` answered claims .*, do not delete it: `snakemake all`",
    ),
    "an entry that is missing": (drop_entry(DATA), f"{DATA}: the manifest lacks it"),
    "no manifest": (gone("manifest.json"), "manifest.json: no such file"),
    "a pipe": (pipe("manifest.json"), "manifest.json: is a pipe"),
    "an edited manifest": (replaced("manifest.json", r'"bytes": 1', '"bytes": 2'), "manifest.json: damaged or edited"),
}


@pytest.mark.promise("verify-fails-by-name")
@pytest.mark.parametrize("group", LIES)
def test_each_lie_about_an_output_is_a_fail_that_names_its_file(study_to_break, group):
    assert_found(study_to_break, LIES[group])


@pytest.mark.promise("verify-fails-by-name")
@pytest.mark.parametrize("lie", MANIFEST_LIES)
def test_what_changed_since_the_study_finished_is_named(study_to_break, lie):
    tell, pattern = MANIFEST_LIES[lie]
    tell(study_to_break / "results")
    assert_named(failures(study_to_break), {lie: (tell, pattern)})
