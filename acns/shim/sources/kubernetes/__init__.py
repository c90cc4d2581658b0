"""The API server's objects: listed, then watched, for ever.

What it keeps true: the shim goes by whole lists only. Nothing is shown before every resource has been listed
once (until then the kernel keeps what an earlier run has put there), and whatever breaks afterwards (the
server, the network, the history of a watch, a right) leaves the last state in force and says so.

`resources` what is watched · `wire` their lists and events as bytes · `failures` what a refusal means ·
`pace` when to try again · `api` the connection · `reflector` one resource's list and watch · `shelf` its
objects · `feeds` how each of them is doing · `source` all of them together · `reporting`, `reporter` what the
cluster is told of its policies.
"""
