"""What can be said of any trace file: what it holds, whether it keeps the rules of the format, how two differ."""
