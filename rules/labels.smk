# Labels: how Snakemake's report names what it shows, and in which order a reader finds it.
#
# Its page sorts categories, subcategories and items by their text, and shows no spaces in front of one. So spaces make the order.
# Of a label with two values it makes a switch, and fails if an item is missing for one of them. So items of one list differ in
# their first label, of which it makes none.

from afmp.study.semantics import SEMANTICS


# A text with its place in `order`, which contains it.
def in_order(text, order):
    return " " * (len(order) - order.index(text)) + text


# The category of the figure of a study: its title, with the name of the figure if another study has the same title.
def category_of(study):
    titles = [f"{one['section']} {one['title']}" for one in STUDY.studies]
    title = f"{study['section']} {study['title']}"
    return title if titles.count(title) == 1 else f"{title} ({study['figure']})"


CATEGORIES = [
    "Claims",
    *map(category_of, STUDY.studies),
    "Paper and notebook",
    "Tables",
    "Scalability",
    "Diagnostics",
]


# A category for Snakemake, which writes it as it is into its page, and as a link into each caption, and would fill in
# wildcards. An invisible character on each side of a special one keeps it from being one, and one in front lets a link begin
# with spaces.
def in_menu(category):
    return "\u2060" + re.sub(r"([:`_<{\\])", "\u2060\\1\u2060", in_order(category, CATEGORIES))


NUM_SEEDS = str(len(STUDY.seeds))

# What the figures of studies show; a study without a figure file of its own has the panels of the original notebook.
STUDY_QUANTITIES = {
    "messages": "test accuracy",
    "window": "test accuracy",
    "accuracy_and_cost": "test accuracy and cost",
}
PANELS = "accuracy and losses"

CLAIM_LABELS = {"quantity": "verdict on every claim", "random seeds": NUM_SEEDS}


# The figure of a study has one semantics, that of its path.
def study_labels(study):
    def labels(wildcards):
        return {
            "semantics": in_order(wildcards.semantics, list(SEMANTICS)),
            "quantity": STUDY_QUANTITIES.get(study["figure"], PANELS),
            "runs": str(len(study["members"])),
            "random seeds": NUM_SEEDS,
        }

    return labels


# What the tables of all runs have.
RUN_QUANTITIES = {
    "summary": "mean of every run",
    "differences": "every run minus its reference",
    "epochs": "every epoch of every run",
}


def run_table_labels(table):
    return {
        "quantity": in_order(RUN_QUANTITIES[table], [*RUN_QUANTITIES.values()]),
        "runs": str(len(STUDY.trainings)),
        "random seeds": NUM_SEEDS,
    }


# What the figures and tables of the sweep have.
SWEPT = {
    "scalability_results": "time and memory",
    "scalability_fits": "fits of time and activations",
}
TABULATED = {
    "scalability": "table: time and memory",
    "scalability_ratios": "table: DeiT-Tiny / model",
    "scalability_fits": "table: fits",
    "parameters": "table: parameters and FLOPs",
}


# `semantics` of a table is both; that of a figure is in its path.
def sweep_labels(quantity, semantics=None):
    def labels(wildcards):
        return {
            "quantity": in_order(quantity, [*SWEPT.values(), *TABULATED.values()]),
            "semantics": semantics or in_order(wildcards.semantics, list(SEMANTICS)),
        }

    return labels


# The diagnostics of a run under one semantics are a subcategory.
DIAGNOSTICS = [
    f"{semantics}, {run}"
    for wanted in SEMANTICS
    for semantics, run in STUDY.trainings
    if semantics == wanted
]


def diagnostics_group(wildcards):
    return in_order(f"{wildcards.semantics}, {wildcards.run}", DIAGNOSTICS)


# The last epoch comes first.
def diagnostics_labels(epoch, epochs):
    def labels(wildcards):
        return {
            "epoch": in_order(str(epoch), list(map(str, reversed(epochs)))),
            "run": wildcards.run,
            "semantics": wildcards.semantics,
            "random seed": str(STUDY.seeds[0]),
            "layers": f"0 to {STUDY.runs[wildcards.run].model.num_layers - 1}",
            "quantity": "gates",
        }

    return labels
