"""The kinds of policy: one module each, named by its key in the experiment file. Nothing lists them; see ``kinds``."""
