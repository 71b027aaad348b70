"""The paper's tables, figures and claims beside what is recomputed and measured here: `vovnet reproduce`.

published.py and published_claims.py hold what the paper prints. recomputed.py, measured.py, blood_cells.py and
sources.py hold what stands beside it, as answers.py describes. table1.py, tables.py, figures.py, memory_access.py and
claims.py join the two into sections, which subjects.py lists by name. aggregation/ is the training study of Figure 2.
"""
