"""How long the pages take with a hospital's database."""
