"""The paper's tables, figures and claims, with what is recomputed and measured beside what is printed."""
