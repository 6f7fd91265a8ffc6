"""The proving ground: what a thief can do to a stolen archive, done, and whether the mark is still shown afterwards.

    contract        what an attack is: a stolen artefact and a share of data in, another artefact and its cost out
    attacks/        one file per attack, its paper on top
    executor/       ONNX graphs as torch modules whose parameters can be trained and written back
    subjects        the user's archive as the stolen artefact, and what is asked of whatever an attack made of it
    shares          the thief's pictures and the held-out ones
    suite           runs attacks one after the other; a crash is a failed attack, never a survived one
    hostile/        endpoints that answer in bad faith

Nothing else imports this package. An attack knows nothing of keys and claims: it holds what a thief holds.
"""
