"""Measuring edits: tasks from data sets, resumable runs of editing methods, metrics, reports, the paper's ablations."""
