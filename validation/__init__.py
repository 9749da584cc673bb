"""Experiments as frozen configs -> results files -> report. Run from a checkout: ``python -m validation``.

One way only: `config` says what is run, `radio` turns it into allocation problems, `schemes` allocates
every round, `study` trains and writes one results file per run, `summary` reduces those files to claims,
`figures` and `report` draw them. Nothing after `study` imports torch: a report never trains.
"""
