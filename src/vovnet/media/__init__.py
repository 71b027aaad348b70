"""Images and videos without PyTorch: find, open, decode, draw and write them."""
