"""Reading identity documents: zones, print, dates, names, and whether they agree."""
