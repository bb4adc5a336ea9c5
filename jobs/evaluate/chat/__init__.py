"""Sweeps on servers that only chat: text goes in, text comes out, and how long to think is the server's own affair.

Such a server cannot be made to go on, nor to answer where it stands, so there is no tree: a policy is a request. What
it can be given is a reasoning effort, a budget under whatever name it has for one, or a wish in the question
(``config``). Its answers (``client``) are kept (``replies``), and become the same ledgers, samples and curves as all
others (``run``).
"""
