"""What public data sets mean by their labels: a CSV file each, as `mgll.readers.vocabularies` reads it."""
