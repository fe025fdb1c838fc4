"""Copying files out of a set of disks: restoring.

copier walks and places; content writes one file; keeping sets what belongs to it; selection chooses
files by patterns; archive writes them as a tar stream; report is the outcome.
"""

from vmount.jobs.copying.copier import Copier
from vmount.jobs.copying.options import CopyOptions, Owner
from vmount.jobs.copying.report import CopyReport

__all__ = ["Copier", "CopyOptions", "CopyReport", "Owner"]
