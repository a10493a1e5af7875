"""How long the parts around the model take: from the last byte of a run to its report in the PACS, and a ring."""
