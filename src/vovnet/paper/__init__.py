"""The paper's tables, figures, claims and studies, beside what is recomputed and measured here."""
