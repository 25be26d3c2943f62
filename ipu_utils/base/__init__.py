"""What every room uses: errors, files, signals, the machine. Nothing here knows of a benchmark."""
