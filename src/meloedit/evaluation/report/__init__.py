"""Reports: one HTML page of one or several runs, with tables, drawings and the worst cases."""
