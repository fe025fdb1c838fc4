"""Linux MD RAID."""
