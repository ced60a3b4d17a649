"""The wording of comments, docstrings, texts and pages: the phrases that docs/style.md replaces may only become fewer.

`python -m tests.tidy` lists them, with names of files as arguments only theirs. `python -m tests.tidy --lower` writes
the counts to allowance.txt, unless that would raise their sum.
"""
