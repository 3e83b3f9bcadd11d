"""Lines of the sweep: the same panels and looks in all figures that show them."""

from drawn_figures import (
    AFMP_LINE,
    DEIT_LINE,
    MODELS,
    REFINED_LINE,
    SIX_SIZES,
    TIME,
    all_text,
    curve,
    panel,
    small_sweep,
)
from synthetic_results import STUDIES, synthetic_point, synthetic_results

from afmp.analysis import models
from afmp.figures import notebook_vs_paper, scalability_fits, scalability_results


def test_each_mode_has_its_panels_and_the_other_semantics_is_a_third_line():
    content = small_sweep()
    content["points"] += [synthetic_point(model, size, mode="inference") for size in SIX_SIZES for model in MODELS]
    notebook = {**content, "semantics": "notebook"}
    for module, titles in (
        (scalability_results, ("Time per image", "Peak memory per image")),
        (scalability_fits, ("Time per image", "Activations per image")),
    ):
        figure = module.draw(content, [notebook])
        for title in titles:
            for passes in ("forward + backward", "inference"):
                axis = panel(figure, f"{title}, {passes}")
                labels = [line.get_label() for line in axis.lines if not line.get_label().startswith("_")]
                assert labels == [AFMP_LINE, DEIT_LINE, AFMP_LINE.replace("paper", "notebook")]


def test_a_model_has_the_same_look_in_all_figures():
    paper = small_sweep(models=models.MODELS)
    notebook = {**paper, "semantics": "notebook"}
    looks = {}
    for module in (scalability_results, scalability_fits):
        for sweeps in ((paper, notebook), (notebook, paper)):
            axis = panel(module.draw(sweeps[0], sweeps[1:]), TIME)
            for line in axis.lines:
                if line.get_label().startswith(("AFMP", "DeiT")):
                    looks.setdefault(line.get_label(), set()).add((line.get_color(), line.get_linestyle()))
    assert len(looks) == 4 and all(len(look) == 1 for look in looks.values())
    assert len(set().union(*looks.values())) == len({colour for ((colour, _),) in looks.values()}) == 4
    both = notebook_vs_paper.draw(STUDIES, paper=synthetic_results(), notebook=synthetic_results(semantics="notebook"))
    axis = panel(both, "7.1 Sparsity level")
    for name in ("paper", "notebook"):
        ((colour, _),) = looks[AFMP_LINE.replace("paper", name)]
        assert curve(axis, name).get_color() == colour


def test_a_model_that_is_measured_once_has_one_line_and_one_that_was_not_measured_has_none():
    without, content = small_sweep(), small_sweep(models=models.MODELS)
    for module in (scalability_results, scalability_fits):
        for sweep, own in ((without, [AFMP_LINE, DEIT_LINE]), (content, [AFMP_LINE, DEIT_LINE, REFINED_LINE])):
            figure = module.draw(sweep, [{**sweep, "semantics": "notebook"}])
            labels = [line.get_label() for line in panel(figure, TIME).lines if line.get_label()[0] != "_"]
            assert labels == [*own, AFMP_LINE.replace("paper", "notebook")]
            said = all_text(figure) + module.caption(sweep)
            assert ("refined" in said) == (sweep is content)
    title = "Scalability: AFMP-Small, DeiT-Tiny and AFMP-refined-Small against the number of patches"
    assert title in all_text(scalability_results.draw(content)).replace("\n", " ")
