"""From an endpoint, or an archive, to the copies it was made from.

tables = CopyTables(claim, key.epoch_secret(claim.terms.epoch))
with Ledger(folder, digest=claim.digest) as ledger:
    result = trace_endpoint(endpoint, Questions(claim, key), tables, copies=1000, trace=1, ledger=ledger)
print(result.verdict, result.accused)

read = read_table(Path("resnet18.mar"), tables, design=claim.design, secret=key.probe_secret())     # white-box

    trace       the black-box run                              result     what it came to
    reading     answers as bits, the order of the questions    scales     every copy's evidence while it is asked
    table       the label table in an archive                  whitebox   which copy it is, with an exact p-value
    plot, report    every copy's evidence against its threshold

How a symbol is asked is `verification.asking`'s, as for a verification.
"""
