"""`ptynet demo`: the whole story on real data, from a key to three verdicts over the network."""
