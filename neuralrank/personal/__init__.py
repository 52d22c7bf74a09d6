"""How well items fit a user: the personal ranker and what it reads, and what serves without one."""
