"""The daemon: APScheduler asks, our runners run, the state database says who.

`service` is the life cycle (start, READY, signals, reload, stop) of a `fleet`: one `runner` for each link of the
configuration. A runner is asked by the `schedule` (APScheduler, at the `slots` a schedule names), by the `requests` of
other processes, or by a signal; `verdict` decides, purely, whether a pass is made now; `passes` makes it with the
engine. How the link is then, `health` says; `parking` makes it rest where passes cannot come to anything.

What is shown goes out through `alerts` (delivered by `couriers`), `status`, `meters` and `web`; what the service
manager is told through `notify` and, as long as this process gets anywhere, `watchdog`.
"""
