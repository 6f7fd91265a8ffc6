"""What a mark trained on somebody's pictures tells of them, and how to tell less: no torch, no disk, no socket."""
