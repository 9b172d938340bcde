"""The development loop, `aidevos dev`: it serves a user's code, and replaces it whenever the code changes.

`command` starts the fleet and the `loop`. The loop never imports the user's code: each version of it is loaded by
processes of its own (`process`), and what they have to say comes as `messages`.
"""
