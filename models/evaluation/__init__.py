"""How good an adapter's answers are, by its author's figures; plain truths and answers in, figures out."""
