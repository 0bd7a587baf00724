"""Routing measured without training: which edit each prompt would reach."""
