"""Scanning for malware: what is to be scanned, who scans it, and what is told of it.

files finds the files and reads them in disk order; engine is what a scanner looks like, clamd and programs
are two kinds; scanner feeds one from the other; report is the outcome.
"""
