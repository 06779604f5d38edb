"""How each link is, derived in one place from the state database.

`health` judges a link by its passes, `fire_times` says when the next one is expected, and `links` puts both together,
as a value and as JSON. The status page, the terminal, the metrics and the notifications only render it.
"""
