"""What every room of evaluate stands on: errors, Records and their journal, statistics, numbers in words."""
