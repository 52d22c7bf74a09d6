"""Files and folders that are there whole or not at all, full disks, one process at a time, gzip."""
