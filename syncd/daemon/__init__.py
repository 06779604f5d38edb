"""The daemon: APScheduler fires, runners make the passes, and the state database decides which process may.

`service` is the life cycle (start, READY, signals, reload, stop) of a `supervisor`: one `runner` for each link of the
configuration. A runner is triggered by the `schedule` (APScheduler, at the fire times of `syncd.status`), by other
processes or by a signal (`triggers`). `decide` says, as a pure function, whether a pass is made now, and parks a link
whose passes cannot succeed. `runner_context` makes the pass with the engine. `syncd.status` derives the link's health.

`alerts`, `channels`, `meters`, `pages` and `web` report to people and to other programs. `systemd` reports to the
service manager, and decides whether this process counts as alive.
"""
