"""The numbers of record: every benchmark, one command, one page.

parts    what is run, how long it may take, what it is asked to reach
running  each part in a process of its own, with its own time limit, resumable
machine  hardware and versions
page     the page and the small JSON beside it
"""
