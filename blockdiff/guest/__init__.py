"""A guest: a Linux kernel in user mode, an ordinary process, that reads file systems which nobody trusts.

`machine` boots it on an image and `answers` checks what it sends; both trust nothing that comes from it.
`inside`, `devices` and `tree` run in the guest, in a Python without any other module of ours than
`messages`; its root is this machine's own /, read-only.
"""
