"""The image viewer: stored frames as values that a browser windows, and the page that shows them."""
