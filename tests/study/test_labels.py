"""Labels: each is drawn as it is written, or refused in one sentence that names its characters."""

import copy

import pytest
from shipped_study import SHIPPED, complains

from afmp.errors import AfmpError
from afmp.study.font import undrawable
from afmp.study.study import resolve_study


def with_text(key: str, text: str) -> dict:
    config = copy.deepcopy(SHIPPED)
    study = config["studies"]["regularisation"]
    (study["runs"][1] if key == "label" else study)[key] = text
    return config


DRAWN = [
    "λ ≤ 0.3 · ½",
    r"$\frac{a}{b}$ {run} 100 %",
    "</script><script>alert(1)</script>",
    "*a* `b`_ |c| .. raw:: html",
    "كثيف 0.3",
    "דליל",
    "می\u200cشود",
    "e\u0301 Ж Ա ქ",
    "❤\ufe0f ☃ 😀",
]


@pytest.mark.promise("labels-as-written")
@pytest.mark.parametrize("key", ["label", "title", "section"])
@pytest.mark.parametrize("text", DRAWN)
def test_a_text_of_the_font_is_kept_as_it_is_written(key, text):
    study = resolve_study(with_text(key, text)).studies[1]
    assert text in (study["title"], study["section"], study["members"][1]["label"])


REFUSED = {
    "稠密": r"figures cannot draw 稠 \(U\+7A20\), 密 \(U\+5BC6\), because their font, DejaVu Sans, has no",
    "घना 0.3": r"घ \(U\+0918\), न \(U\+0928\), ा \(U\+093E\), because",
    "👩\u200d💻 run": r"👩 \(U\+1F469\), 💻 \(U\+1F4BB\), because",
    "ไทย 𓀀": r"U\+0E44.*U\+13000",
    "一二三四五六七": r"五 \(U\+4E94\) and 2 more, because",
    "gpj.\u202etac": r"U\+202E",
    "a\u200bb\u00ad": r"U\+200B.*U\+00AD",
    "joined\u034f and \u2800 blank": r"U\+034F.*U\+2800",
    "private \uef00": r"U\+EF00",
}


@pytest.mark.promise("labels-as-written")
@pytest.mark.parametrize("key", ["label", "title", "section"])
@pytest.mark.parametrize("text", REFUSED, ids=ascii)
def test_a_text_that_figures_cannot_draw_is_refused_with_its_characters(key, text):
    with pytest.raises(AfmpError, match=f"config: studies/regularisation/.*{key}: found .*{REFUSED[text]}") as caught:
        resolve_study(with_text(key, text))
    assert complains(caught.value, of="config: ")


@pytest.mark.parametrize("twin", ["λ  =  1e-3", " λ = 1e-3", "λ\u00a0= 1e-3", "λ = 1e-3\u200d", "λ = 1e-3\ufe0e"])
def test_labels_that_look_the_same_are_refused(twin):
    with pytest.raises(AfmpError, match=r"runs/1/label: .* looks like the label 'λ = 1e-3'"):
        resolve_study(with_text("label", twin))


@pytest.mark.parametrize("key", ["label", "title", "section"])
@pytest.mark.parametrize("text", ["\u200d", "\u200c \ufe0f", "\u2009\u200d\u202f"], ids=ascii)
def test_a_text_of_which_nothing_is_seen_is_refused(key, text):
    with pytest.raises(AfmpError, match=f"{key}: found .*, of which nothing is seen; allowed: a visible text"):
        resolve_study(with_text(key, text))


def test_composed_and_decomposed_labels_look_the_same():
    config = with_text("label", "caf\u00e9")
    config["studies"]["regularisation"]["runs"][0]["label"] = "cafe\u0301"
    with pytest.raises(AfmpError, match="looks like the label"):
        resolve_study(config)


def test_the_font_is_the_one_that_figures_use():
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    assert "mpl-data" in font.fname
    shown = {chr(code) for code in font.get_charmap() if chr(code).isprintable()}
    assert not undrawable("".join(sorted(shown & set("abcλЖكאԱქ∑😀"))))
    assert undrawable("稠a密") == ["稠", "密"]
