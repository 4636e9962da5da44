"""The console: a page on loopback that shows a local stack's requests, and sends some.

`server` serves it; `page` writes it down, in the words of `words`; `watch` reads the stack, and `steps` makes a
request's way of what it read; `send` signs what the form asks for.
"""
