"""The one process of the security resolver that may change the kernel's learned set, and what it may be told.

nftables knows no smaller right than CAP_NET_ADMIN, which is the right to change any rule of the namespace. So
the resolver, which reads what pods and DNS servers send, does without it, and this process, which reads
nothing but fixed-size records of (selector id, IPv4 address, expiry), holds it for the takeover.
"""
