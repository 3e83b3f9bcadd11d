"""The names of the semantics: the readings of AFMP that a study can compare; docs/semantics.md compares them."""

# "paper" follows the paper's text, "notebook" computes what the original notebook computes.
SEMANTICS = ("paper", "notebook")
