"""Continual learning: what arrived since the last time, with some of what came before.

A round pulls the new window, makes a dataset of it, mixes in what is remembered, fine-tunes the
bundle in service, and asks the gate. `window` is which rows of the logs are a round's, `memory`
what is remembered and how, `state` what lies on disk, `rounds` one round and its schedule.
"""
