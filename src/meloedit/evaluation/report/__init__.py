"""A page of runs: tables, drawings, cases."""
