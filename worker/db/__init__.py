"""The database, which is the truth: records, transitions (the only place a state changes) and queries."""
