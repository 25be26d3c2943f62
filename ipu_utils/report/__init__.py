"""What is said of a run: lines, records, pages."""
