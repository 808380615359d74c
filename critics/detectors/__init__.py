"""One file per critic; the file name is its registry key."""
