"""What the state database and the mapping tables share: URLs, drivers, connections, and what a driver's errors mean.

One module a kind of database, with all that differs: `sqlite`, `postgresql`, `mysql`. `registry` finds
the one that a URL, a connection or an error belongs to.
"""
