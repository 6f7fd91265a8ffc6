"""Code words for copies, and the decoder that names the copies a pirate was made from."""
