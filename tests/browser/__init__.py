"""What a person does in a browser: Debian's Chromium, driven by Playwright, against the pages on a real port."""
