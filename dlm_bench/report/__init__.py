"""The report: a study's figures, tables and facts in one HTML file that needs no network."""

from dlm_bench.report.page import build_report

__all__ = ["build_report"]
