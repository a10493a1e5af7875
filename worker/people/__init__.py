"""Who uses this software: users, their log-ins and sessions, tokens of machines."""
