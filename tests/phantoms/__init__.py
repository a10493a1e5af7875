"""Objects with true headers and known content, of what no real sample may be shipped."""
