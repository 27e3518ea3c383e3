"""The report: a study's figures, tables and environments in one HTML file without any network."""

from dlm_bench.report.page import build_report

__all__ = ["build_report"]
