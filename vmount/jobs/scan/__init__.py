"""Scanning for malware: which files are scanned, by what, and the report.

files finds the files and reads them in disk order; engine is what a scanner looks like, clamd and programs
are two kinds; scanner feeds one from the other; report is the outcome.
"""
