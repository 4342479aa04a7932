"""The programs: ``python -m jobs.<name>``. No geometry here; that is ``tddfa3``."""
