"""How each link is, derived in one place from the state database.

`health` judges a link by its passes, `fire_times` says when the next one is expected, `progress` how far one has got,
`links` puts the three together and `documents` writes them as JSON. The status page, the terminal, the metrics and the
notifications only render it.
"""
