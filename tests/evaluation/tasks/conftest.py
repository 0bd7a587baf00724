"""Lets the tests in folders below import ``task_rows``."""
