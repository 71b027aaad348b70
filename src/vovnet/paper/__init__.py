"""The paper's tables, figures and claims next to recomputed and measured values: `vovnet reproduce`.

published.py and published_claims.py hold what the paper prints. recomputed.py, measured.py, blood_cells.py and
sources.py hold the values to compare with it, as answers.py describes. table1.py, tables.py, figures.py,
memory_access.py and claims.py join the two into sections, which subjects.py lists by name. wording.py updates the texts
of old records. aggregation/ is the training study of Figure 2.
"""
