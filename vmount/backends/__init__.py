"""What reads bytes: local files, block devices, NBD and HTTPS servers."""
